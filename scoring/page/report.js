"use strict";
const chosen = { set: null, model: null };

function shown(element) {
  return ["set", "model"].every((kind) => !(kind in element.dataset) || chosen[kind].has(element.dataset[kind]));
}

function apply() {
  for (const chips of document.querySelectorAll(".chips")) {
    const pressed = chips.querySelectorAll('button[aria-pressed="true"]');
    chosen[chips.dataset.filter] = new Set(Array.from(pressed, (button) => button.value));
  }
  for (const element of document.querySelectorAll("[data-set], [data-model]")) element.hidden = !shown(element);
}

for (const chips of document.querySelectorAll(".chips")) {
  chips.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const all = Array.from(chips.querySelectorAll("button[aria-pressed]"));
    const on = (other) => other.getAttribute("aria-pressed") === "true";
    if (button.classList.contains("all")) {
      all.forEach((other) => other.setAttribute("aria-pressed", "true"));
    } else if (all.length > 1 && all.every(on)) {
      // The first click among all names the one to look at; further clicks add and remove.
      all.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    } else {
      button.setAttribute("aria-pressed", String(!on(button)));
      if (!all.some(on)) all.forEach((other) => other.setAttribute("aria-pressed", "true"));
    }
    apply();
  });
}

const order = document.getElementById("order");
if (order) {
  const cards = document.getElementById("cards");
  const rate = (card) => {
    if (!order.value) return Number(card.dataset.rate);
    const rows = Array.from(card.querySelectorAll(".hypothesis"));
    const row = rows.find((other) => other.dataset.model === order.value);
    return row ? Number(row.dataset.rate) : -1;
  };
  order.addEventListener("change", () => {
    Array.from(cards.children).sort((a, b) => rate(b) - rate(a)).forEach((card) => cards.append(card));
  });
}

// One voice at a time.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);

apply();
