// Boxes that a person draws, moves and resizes on the image, by pointer or by keys.

import { clamp, make, place } from "./elements.js";

const STEP = 10, LEAST = 4; // per mille

export class Drawer {
  #items = [];
  #colors;
  #tell;
  #viewer;

  // `tell` says a sentence to who cannot see the boxes.
  constructor(viewer, colors, tell) {
    [this.#viewer, this.#colors, this.#tell] = [viewer, colors, tell];
  }

  get isOpen() {
    return this.#viewer.view.classList.contains("drawing");
  }

  get boxes() {
    return this.#items.map(({ box, label }) => ({ per_mille: box.map((value) => Math.round(value * 10) / 10), label }));
  }

  // Begins with boxes as { per_mille, label }.
  open(boxes) {
    this.#viewer.showBoxes([]);
    this.#viewer.view.classList.add("drawing");
    this.#viewer.grab = (event) => this.#grab(event);
    for (const { per_mille, label } of boxes) this.#make(per_mille, label);
  }

  close() {
    this.clear();
    this.#viewer.view.classList.remove("drawing");
    this.#viewer.grab = () => null;
  }

  clear() {
    for (const { element } of this.#items) element.remove();
    this.#items = [];
  }

  // Adds a box in the middle of what is seen, and gives it the focus.
  add() {
    const [left, top, right, bottom] = this.#viewer.seen();
    const [x, y] = [(right - left) / 3, (bottom - top) / 3];
    this.#make([left + x, top + y, right - x, bottom - y]).element.focus();
  }

  #make(box, label = "") {
    const inside = [...(label ? [make("span", {}, label)] : []), make("b")];
    const element = make("div", { className: "box own drawn", tabIndex: 0, role: "group", ariaRoleDescription: "box" }, ...inside);
    element.setAttribute("aria-describedby", "keys-of-boxes");
    const item = { element, box: [...box], label };
    element.addEventListener("keydown", (event) => this.#press(event, item));
    this.#items.push(item);
    this.#viewer.stage.append(element);
    this.#draw();
    return item;
  }

  #draw() {
    this.#items.forEach((item, index) => {
      place(item.element, item.box, this.#colors[index % this.#colors.length]);
      const [left, top, right, bottom] = item.box.map((value) => Math.round(value / 10));
      item.element.ariaLabel = `${item.label || "Box"} ${index + 1} of ${this.#items.length}: ${left} to ${right} per cent from the left, ${top} to ${bottom} from the top`;
    });
  }

  #remove(item) {
    const place = this.#items.indexOf(item);
    item.element.remove();
    this.#items.splice(place, 1);
    this.#draw();
    (this.#items[Math.min(place, this.#items.length - 1)]?.element ?? this.#viewer.view).focus();
    this.#tell("Box removed.");
  }

  #shift(item, from, x, y) {
    const [left, top, right, bottom] = from;
    const [dx, dy] = [clamp(x, -left, 1000 - right), clamp(y, -top, 1000 - bottom)];
    item.box = [left + dx, top + dy, right + dx, bottom + dy];
    this.#draw();
  }

  #resize(item, from, x, y) {
    const [left, top, right, bottom] = from;
    item.box = [left, top, clamp(right + x, Math.min(left + LEAST, 1000), 1000), clamp(bottom + y, Math.min(top + LEAST, 1000), 1000)];
    this.#draw();
  }

  #press(event, item) {
    const steps = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (steps && event.shiftKey) this.#resize(item, item.box, ...steps);
    else if (steps) this.#shift(item, item.box, ...steps);
    else if (event.key === "Delete" || event.key === "Backspace") this.#remove(item);
    else return; // the window zooms
    event.preventDefault();
    event.stopPropagation();
    if (steps) this.#tell(item.element.ariaLabel);
  }

  #grab(event) {
    const start = this.#viewer.locate(event);
    const held = this.#items.find(({ element }) => element.contains(event.target));
    if (held) {
      const change = event.target.localName === "b" ? this.#resize : this.#shift;
      const from = held.box;
      const move = (now) => {
        const [x, y] = this.#viewer.locate(now);
        change.call(this, held, from, x - start[0], y - start[1]);
      };
      return { move, end: () => {} };
    }
    let drawn = null;
    const move = (now) => {
      const end = this.#viewer.locate(now);
      const box = [Math.min(start[0], end[0]), Math.min(start[1], end[1]), Math.max(start[0], end[0]), Math.max(start[1], end[1])];
      if (box[2] - box[0] < LEAST || box[3] - box[1] < LEAST) return; // a click
      drawn ??= this.#make(box);
      drawn.box = box;
      this.#draw();
    };
    return { move, end: () => {} };
  }
}
