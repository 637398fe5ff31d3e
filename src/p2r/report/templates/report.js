"use strict";
(() => {
  const group = document.querySelector(".filters");
  const cards = [...document.querySelectorAll(".card")];
  const none = document.querySelector(".none");
  if (!group) return;
  group.hidden = false;
  group.addEventListener("click", (event) => {
    const chosen = event.target.closest("button");
    if (!chosen) return;
    for (const button of group.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button === chosen));
    }
    const flag = chosen.dataset.filter;
    let shown = 0;
    for (const card of cards) {
      card.hidden = flag !== "all" && !card.dataset.flags.split(" ").includes(flag);
      shown += card.hidden ? 0 : 1;
    }
    none.hidden = shown > 0;
  });
})();
