// One question and what comes of it, as a card. Whatever a model or a person wrote is set as text.

import { make } from "./elements.js";

const STATES = {
  given: "Your boxes",
  "whole image": "It named no place: it reads the whole image.",
  unparsed: "Its reply holds no usable box: it reads the whole image.",
};

const showSeconds = (seconds) => `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
const showCost = (seconds, tokens) => [showSeconds(seconds), ...(tokens ? [`${tokens.toLocaleString("en")} tokens`] : [])].join(" · ");
const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

export class Turn {
  boxes = []; // as { per_mille, label, color }
  trace = null;
  answer = "";
  isDone = false;
  #started = performance.now();
  #isCut = false;
  #tokens = {};
  #seconds = {};

  // `isWalk`: it looks before it answers. `tell` says a sentence to who cannot see the card.
  constructor(template, { question, isWalk, compares, colors, tell }) {
    this.element = template.content.firstElementChild.cloneNode(true);
    Object.assign(this, { question, isWalk, colors, tell });
    this.find("h2").textContent = question;
    this.find(".direct").hidden = !compares;
    this.find(".answers").classList.toggle("two", compares);
    this.find(".stages").hidden = !isWalk;
    if (!isWalk) this.find(".own h3").textContent = "As it is";
    this.#mark(isWalk ? "look" : "read");
    this.find(".look .state").textContent = "Looking …";
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  take(chunk) {
    if (chunk.usage) this.#tokens.own = chunk.usage.total_tokens;
    if (chunk.p2r) this.#look(chunk.p2r);
    this.#isCut ||= chunk.choices[0]?.finish_reason === "length";
    const delta = chunk.choices[0]?.delta ?? {};
    if (delta.reasoning_content) this.find(".thought").textContent += delta.reasoning_content;
    if (delta.content) this.answer = this.find(".own .answer").textContent += delta.content;
  }

  takeDirect(chunk) {
    if (chunk.usage) this.#tokens.direct = chunk.usage.total_tokens;
    this.find(".direct .answer").textContent += chunk.choices[0]?.delta?.content ?? "";
  }

  end() {
    this.isDone = true;
    this.#finish("own");
    if (this.#isCut) this.find(".own .cost").textContent += " · cut off at the limit of tokens";
    this.#mark("");
    this.find("details").hidden = !this.isWalk;
    this.find(".buttons").hidden = !this.isWalk;
    this.tell(`Answer: ${this.answer}`);
  }

  endDirect() {
    this.#finish("direct");
  }

  fail(message) {
    this.#mark("");
    this.find(".stages").hidden ||= !this.boxes.length;
    this.find(".own").hidden = !this.answer;
    this.find(".problem").hidden = false;
    this.find(".problem").textContent = message;
  }

  failDirect(message) {
    this.find(".direct .answer").textContent = "";
    this.find(".direct .cost").textContent = message;
    this.find(".direct .answer").ariaBusy = "false";
  }

  #finish(name) {
    const seconds = this.#seconds[name] ?? (performance.now() - this.#started) / 1000;
    this.find(`.${name} .answer`).ariaBusy = "false";
    this.find(`.${name} .cost`).textContent = showCost(seconds, this.#tokens[name]);
  }

  #mark(stage) {
    for (const each of ["look", "read"]) this.find(`.${each}`).classList.toggle("now", each === stage);
  }

  #look(look) {
    this.boxes = look.boxes.map((box, index) => ({ ...box, color: this.colors[index % this.colors.length] }));
    this.find(".look .state").textContent = STATES[look.state] ?? count(this.boxes.length, "box", "boxes");
    this.#list(".boxes", this.boxes.map(({ label, pixels: [left, top, right, bottom] }) => [
      make("b", {}, label || "box"), make("span", {}, `x ${left}–${right}, y ${top}–${bottom}`),
    ]), this.boxes);
    if (look.stage === "look") {
      this.#mark("read");
      this.find(".read .state").textContent = "Reading …";
      this.tell(`Looked: ${this.find(".look .state").textContent}. Reading.`);
    } else this.#reveal(look);
  }

  // Fills a list; its items have the colors of these boxes.
  #list(selector, items, boxes) {
    this.find(selector).replaceChildren(...items.map((inside, index) => {
      const item = make("li", {}, ...inside);
      if (boxes[index]) item.style.setProperty("--c", boxes[index].color);
      return item;
    }));
  }

  #reveal(look) {
    const { look: first, answer: second } = look.stages;
    if (first.num_calls) this.find(".look .state").textContent += ` · ${showCost(first.seconds, first.usage.total_tokens)}`;
    this.find(".read .state").textContent = showCost(second.seconds, second.usage.total_tokens);
    const areAll = look.crops.length === Math.min(3, this.boxes.length); // no box was left out
    this.#list(".crops", (look.images?.crops ?? []).map((src, index) => {
      const [left, top, right, bottom] = look.crops[index];
      return [make("img", { src, alt: `Crop ${index + 1}, ${right - left} by ${bottom - top} pixels` })];
    }), areAll ? this.boxes : []);
    const said = [["Asked where to look", first.prompt], ["Reply", first.reply], ["Asked about the crops", second.prompt], ["Reply", second.reply]];
    for (const [name, text] of said.filter(([, text]) => text)) {
      this.find("dl").append(make("dt", {}, name), make("dd", {}, text));
    }
    this.#seconds.own = look.seconds;
    this.trace = look.trace;
  }
}
