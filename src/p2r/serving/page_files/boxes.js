// Boxes that a person draws, moves and resizes on the image, by pointer or by keys.

import { clamp, make, place, showLabel } from "./elements.js";

const STEP = 10, LEAST = 1; // per mille
const CLICK_PX = 6; // a pointer that moves less draws nothing

export class Drawer {
  #items = [];
  #tell;
  #viewer;

  // `tell` says a sentence to who cannot see the boxes.
  constructor(viewer, tell) {
    [this.#viewer, this.#tell] = [viewer, tell];
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
    this.#make([left + x, top + y, right - x, bottom - y]).element.focus({ preventScroll: true });
  }

  #make(box, label = "") {
    const element = make("div", { className: "box own editable", tabIndex: 0, role: "group", ariaRoleDescription: "box" }, ...showLabel(label), make("b"));
    element.setAttribute("aria-describedby", "keys-of-boxes");
    const item = { element, box: [...box], label };
    element.addEventListener("keydown", (event) => this.#press(event, item));
    this.#items.push(item);
    this.#viewer.stage.append(element);
    this.#draw();
    return item;
  }

  #draw() {
    this.#items.forEach(({ element, box, label }, index) => {
      place(element, box, index);
      const [left, top, right, bottom] = box.map((value) => Math.round(value / 10));
      element.ariaLabel = `${label || "Box"} ${index + 1} of ${this.#items.length}: ${left} to ${right} per cent from the left, ${top} to ${bottom} from the top`;
    });
  }

  #remove(item) {
    const index = this.#items.indexOf(item);
    item.element.remove();
    this.#items.splice(index, 1);
    this.#draw();
    (this.#items[Math.min(index, this.#items.length - 1)]?.element ?? this.#viewer.view).focus({ preventScroll: true });
    this.#tell("Box removed.");
  }

  #shift(item, [left, top, right, bottom], x, y) {
    const [dx, dy] = [clamp(x, -left, 1000 - right), clamp(y, -top, 1000 - bottom)];
    item.box = [left + dx, top + dy, right + dx, bottom + dy];
    this.#draw();
  }

  #resize(item, [left, top, right, bottom], x, y) {
    item.box = [left, top, clamp(right + x, left + LEAST, 1000), clamp(bottom + y, top + LEAST, 1000)];
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

  // What follows the pointer: a box or its corner where it went down on one, else a new box.
  #grab(event) {
    const start = this.#viewer.locate(event);
    let item = this.#items.find(({ element }) => element.contains(event.target));
    if (item) {
      const change = event.target.localName === "b" ? this.#resize : this.#shift, from = item.box;
      return (now) => {
        const [x, y] = this.#viewer.locate(now);
        change.call(this, item, from, x - start[0], y - start[1]);
      };
    }
    return (now) => {
      if (!item && Math.hypot(now.clientX - event.clientX, now.clientY - event.clientY) < CLICK_PX) return;
      const end = this.#viewer.locate(now);
      const [left, top] = [0, 1].map((axis) => Math.min(start[axis], end[axis], 1000 - LEAST));
      item ??= this.#make([0, 0, 0, 0]);
      item.box = [left, top, Math.max(start[0], end[0], left + LEAST), Math.max(start[1], end[1], top + LEAST)];
      this.#draw();
    };
  }
}
