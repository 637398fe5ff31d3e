"use strict";
(() => {
  const group = document.querySelector(".filters");
  const cards = [...document.querySelectorAll("article.card")].map((element) => ({ element, flags: new Set(element.dataset.flags.split(" ")) }));
  const none = document.querySelector(".none");
  if (!group || !cards.length) return;
  group.hidden = false;
  const buttons = [...group.querySelectorAll("button")];
  const chosen = (what) => group.querySelector(`[data-choose="${what}"]`)?.value ?? "";
  const most = cards.filter(({ element }) => element.classList.contains("printed")).length;
  let flag = buttons.find((button) => button.getAttribute("aria-pressed") === "true")?.dataset.filter ?? "asked";

  // Boxes of the chosen run; its crops where the card has them, else those it came with, under their own name.
  const look = (card, run) => {
    const boxes = [...card.querySelectorAll(".box[data-run]")];
    for (const box of boxes) box.hidden = box.dataset.run !== run;
    const num = boxes.filter((box) => !box.hidden).length;
    const count = card.querySelector(".looked .count");
    if (count) count.textContent = `${num} ${num === 1 ? "box" : "boxes"}`;
    const crops = [...card.querySelectorAll(".crops")];
    const own = crops.find((figure) => figure.dataset.run === run) ?? crops[0];
    for (const figure of crops) figure.hidden = figure !== own;
    for (const note of card.querySelectorAll(".labels")) note.hidden = note.dataset.run !== run;
  };

  const show = () => {
    const run = chosen("run") || "0";
    const [benchmark, category] = [chosen("benchmark"), chosen("category")];
    const counts = Object.fromEntries(buttons.map((button) => [button.dataset.filter, 0]));
    for (const { element, flags } of cards) {
      const fits = (!benchmark || element.dataset.benchmark === benchmark) && (!category || element.dataset.category === category);
      for (const key in counts) counts[key] += fits && flags.has(`${run}:${key}`) ? 1 : 0;
      element.hidden = !fits || !flags.has(`${run}:${flag}`);
    }
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === flag));
      button.querySelector("span").textContent = counts[button.dataset.filter];
    }
    document.querySelector(".shown").textContent = counts[flag] < cards.length ? `${counts[flag]} of ${cards.length}` : cards.length;
    none.hidden = counts[flag] > 0;
  };

  // Paper shows a selection of every kind; once something was chosen, the first of what is on the screen.
  const choose = () => {
    show();
    const shown = cards.filter(({ element }) => !element.hidden);
    for (const { element } of cards) element.classList.remove("printed");
    for (const { element } of shown.slice(0, most)) element.classList.add("printed");
    const note = document.querySelector(".on-paper");
    if (note) note.textContent = `On paper: the first ${Math.min(most, shown.length)} of ${shown.length}. The file shows all.`;
  };

  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    flag = button.dataset.filter;
    choose();
  });
  group.addEventListener("change", (event) => {
    if (event.target.dataset.choose === "run") {
      for (const { element } of cards) look(element, event.target.value);
    }
    choose();
  });
  show();
})();
