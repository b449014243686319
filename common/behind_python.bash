# bash completes the command `python`; if its first word is one of our scripts, its words go to that script's function.
_crosspair_behind_python() {
  local script=$(basename "${COMP_WORDS[1]:-}")
  case "$script" in
    prepare.py|train.py|merge.py|evaluate.py|analyze.py)
      if [ "$COMP_CWORD" -ge 2 ]; then
        COMP_WORDS=("${COMP_WORDS[@]:1}"); COMP_CWORD=$((COMP_CWORD - 1))
        "_shtab_${script//./_}"
        return
      fi ;;
  esac
  COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _crosspair_behind_python python python3
