// One question and what comes of it, as a card. Whatever a model or a person wrote is set as text.

import { make, paint } from "./elements.js";

const STATES = {
  given: "Your boxes",
  "whole image": "It named no place: it reads the whole image.",
  unparsed: "Its reply holds no usable box: it reads the whole image.",
};

const showCost = (seconds, tokens) => `${seconds.toFixed(seconds < 10 ? 1 : 0)} s${tokens ? ` · ${tokens.toLocaleString("en")} tokens` : ""}`;

export class Turn {
  trace = null;
  answer = "";
  isDone = false;
  #started = performance.now();
  #ends = { own: {}, direct: {} }; // of each answer: tokens, seconds, and whether it was cut off

  // `looks`: it is asked, or told, where to look. `isWalk`: it says how it came about. `boxes`: drawn by hand, as
  // { per_mille, label }. `tell` says a sentence to who cannot see the card.
  constructor(template, { question, options, caption, looks, isWalk, compares, boxes, tell }) {
    this.element = template.content.firstElementChild.cloneNode(true);
    Object.assign(this, { question, options, looks, isWalk, boxes, tell });
    this.#set("h2", question);
    this.#set(".given", options.join(" · "));
    this.#set(".own h3", caption);
    this.find(".direct").hidden = !compares;
    this.find(".answers").classList.toggle("two", compares);
    this.find(".stages").hidden = !isWalk;
    this.find(".look").hidden = !looks;
    this.#mark(looks ? "look" : "read");
    tell(looks ? "Looking." : "Reading.");
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  // Takes a chunk of one of the two answers: "own" or "direct".
  take(half, { usage, p2r: look, choices }) {
    const { delta, finish_reason } = choices?.[0] ?? {}, field = this.find(`.${half} .answer`), end = this.#ends[half];
    if (usage) end.tokens = usage.total_tokens;
    end.isCut ||= finish_reason === "length";
    field.textContent += delta?.content ?? "";
    if (look?.answer) field.textContent = look.answer;
    if (half === "direct") return;
    this.answer = field.textContent;
    this.find(".thought").textContent += delta?.reasoning_content ?? "";
    if (look) this.#look(look);
  }

  end(half) {
    const { seconds, tokens, isCut } = this.#ends[half], field = this.find(`.${half} .answer`);
    field.ariaBusy = "false";
    field.textContent ||= "No answer";
    this.#set(`.${half} .cost`, showCost(seconds ?? (performance.now() - this.#started) / 1000, tokens) + (isCut ? " · cut off at the limit of tokens" : ""));
    if (half === "direct") return;
    this.isDone = true;
    this.#mark("");
    this.find("details").hidden = this.find(".buttons").hidden = !this.isWalk;
    this.find(".see").hidden = !this.boxes.length;
    this.tell(`Answer: ${field.textContent}`);
  }

  fail(half, message) {
    this.find(`.${half} .answer`).ariaBusy = "false";
    if (half === "direct") return this.#set(".direct .cost", message);
    this.#mark("");
    this.find(".stages").hidden ||= !this.find(".boxes").children.length;
    this.find(".own").hidden = !this.answer;
    this.find(".problem").hidden = false;
    this.#set(".problem", message);
  }

  #set(selector, text) {
    this.find(selector).textContent = text;
  }

  // Shows which stage is at work; "" for none.
  #mark(stage) {
    for (const [each, word] of Object.entries({ look: "Looking …", read: "Reading …" })) {
      const item = this.find(`.${each}`), state = this.find(`.${each} .state`);
      item.classList.toggle("now", each === stage);
      if (each === stage) state.textContent = word;
      else if (state.textContent === word) state.textContent = "";
    }
  }

  #look(look) {
    this.boxes = look.boxes;
    this.#mark("read");
    this.#set(".look .state", STATES[look.state] ?? `${look.boxes.length} ${look.boxes.length === 1 ? "box" : "boxes"}`);
    this.#list(".boxes", look.boxes.map(({ label, pixels: [left, top, right, bottom] }) => [
      make("b", { dir: "auto" }, label || "box"), " ", make("span", {}, `x ${left}–${right}, y ${top}–${bottom}`),
    ]), true);
    if (look.stage === "answer") this.#reveal(look);
    else if (this.looks) this.tell(`Looked: ${this.find(".look .state").textContent}. Reading.`);
  }

  // Fills a list, in the colors of the boxes where the items are theirs.
  #list(selector, items, areTheirs) {
    this.find(selector).replaceChildren(...items.map((inside, index) => (areTheirs ? paint(make("li", {}, ...inside), index) : make("li", {}, ...inside))));
  }

  #reveal({ stages: { look, answer }, crops, images, seconds, trace }) {
    if (look.num_calls) this.find(".look .state").textContent += ` · ${showCost(look.seconds, look.usage.total_tokens)}`;
    this.#set(".read .state", showCost(answer.seconds, answer.usage.total_tokens));
    const areTheirs = crops.length === Math.min(3, this.boxes.length); // no box was left out
    this.#list(".crops", (images?.crops ?? []).map((src, index) => {
      const [left, top, right, bottom] = crops[index], label = areTheirs && this.boxes[index].label;
      return [make("img", { src, alt: `Crop ${index + 1}${label ? ` (${label})` : ""}, ${right - left} by ${bottom - top} pixels` })];
    }), areTheirs);
    const said = [["Asked where to look", look.prompt], ["Reply", look.reply], [this.looks ? "Asked about the crops" : "Asked", answer.prompt], ["Reply", answer.reply]];
    for (const [name, text] of said.filter(([, text]) => text)) this.find("dl").append(make("dt", {}, name), make("dd", { dir: "auto" }, text));
    this.#ends.own.seconds = seconds;
    this.trace = trace;
  }
}
