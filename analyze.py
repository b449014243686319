"""Shows what fine-tuning changed, layer by layer: heat maps of changed rows, delta norms, cosines, sign conflicts.

python analyze.py outputs/ko-en/model --base openai/whisper-medium
python analyze.py ko-en=outputs/ko-en/model ja-en=outputs/ja-en/model --base openai/whisper-medium --out DIR
python analyze.py --config demo.yaml
"""

from analysis.analysis_options import AnalysisOptions, run
from common.options import Command, main

ANALYZE = Command("analyze.py", __doc__ or "", AnalysisOptions, run, config=("analyze",))

if __name__ == "__main__":
    main(ANALYZE)
