// On paper, what is folded is open: tables, prompts and replies.
"use strict";
(() => {
  const closed = () => document.querySelectorAll("details:not([open], .said)");
  window.addEventListener("beforeprint", () => closed().forEach((each) => { each.open = true; each.dataset.wasClosed = ""; }));
  window.addEventListener("afterprint", () => document.querySelectorAll("[data-was-closed]").forEach((each) => { each.open = false; delete each.dataset.wasClosed; }));
})();
