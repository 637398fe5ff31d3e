// An image in a window: zoomed and moved by pointer, wheel, pinch, keys and buttons. Boxes lie on it, in per cent.

import { clamp, make, place } from "./elements.js";

const CLOSER = 1.4, MOST = 24, STEP_PX = 60;

export class Viewer {
  grab = () => null; // given a pointer's event, what follows the pointer instead of the image: { move(event), end() }
  #zoom = 1;
  #x = 0;
  #y = 0;
  #pointers = new Map();
  #drag = null;

  constructor(view, stage, full) {
    Object.assign(this, { view, stage, full });
    new ResizeObserver(() => this.#lay()).observe(view);
    view.addEventListener("wheel", (event) => this.#turn(event), { passive: false });
    view.addEventListener("keydown", (event) => this.#press(event));
    view.addEventListener("dblclick", (event) => this.zoom(this.#zoom > 1 ? 1 / this.#zoom : 3, event));
    view.addEventListener("pointerdown", (event) => this.#touch(event));
    view.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, (event) => this.#leave(event));
    view.addEventListener("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
  }

  show(url) {
    this.full.src = url;
    return this.full.decode().then(() => {
      this.view.style.aspectRatio = `${this.full.naturalWidth} / ${this.full.naturalHeight}`;
      this.whole();
    });
  }

  // Boxes as { per_mille, label, color }.
  showBoxes(boxes) {
    for (const old of this.stage.querySelectorAll(".box")) old.remove();
    for (const { per_mille, label, color } of boxes) {
      const name = label ? [make("span", {}, label)] : [];
      this.stage.append(place(make("i", { className: "box own", ariaHidden: "true" }, ...name), per_mille, color));
    }
  }

  whole() {
    [this.#zoom, this.#x, this.#y] = [1, 0, 0];
    this.#lay();
  }

  // Zooms around a point of the screen, by default the middle of the window.
  zoom(factor, at) {
    const { left, top, width, height } = this.view.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - left, at.clientY - top] : [width / 2, height / 2];
    const zoom = clamp(this.#zoom * factor, 1, MOST);
    this.#x = x - ((x - this.#x) * zoom) / this.#zoom;
    this.#y = y - ((y - this.#y) * zoom) / this.#zoom;
    this.#zoom = zoom;
    this.#lay();
  }

  // A point of the screen, per mille of the image.
  locate({ clientX, clientY }) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return [((clientX - left) / width) * 1000, ((clientY - top) / height) * 1000].map((value) => clamp(value, 0, 1000));
  }

  // The part of the image that the window shows, per mille.
  seen() {
    const { left, top, right, bottom } = this.view.getBoundingClientRect();
    return [...this.locate({ clientX: left, clientY: top }), ...this.locate({ clientX: right, clientY: bottom })];
  }

  #lay() {
    const { clientWidth, clientHeight } = this.view;
    if (!this.full.naturalWidth || !clientWidth) return;
    const scale = Math.min(clientWidth / this.full.naturalWidth, clientHeight / this.full.naturalHeight) * this.#zoom;
    const [width, height] = [this.full.naturalWidth * scale, this.full.naturalHeight * scale];
    const keep = (value, size, room) => (size <= room ? (room - size) / 2 : clamp(value, room - size, 0));
    this.#x = keep(this.#x, width, clientWidth);
    this.#y = keep(this.#y, height, clientHeight);
    Object.assign(this.stage.style, { width: `${width}px`, height: `${height}px`, transform: `translate(${this.#x}px, ${this.#y}px)` });
    this.view.classList.toggle("zoomed", this.#zoom > 1);
    this.full.classList.toggle("pixels", scale > 3);
  }

  #shift(x, y) {
    this.#x += x;
    this.#y += y;
    this.#lay();
  }

  #turn(event) {
    if (event.deltaY > 0 && this.#zoom === 1 && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoom(Math.exp(-clamp(event.deltaY * lines, -200, 200) * (event.ctrlKey ? 0.01 : 0.003)), event);
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const shifts = { ArrowLeft: [STEP_PX, 0], ArrowRight: [-STEP_PX, 0], ArrowUp: [0, STEP_PX], ArrowDown: [0, -STEP_PX] };
    if (event.key === "+" || event.key === "=") this.zoom(CLOSER);
    else if (event.key === "-") this.zoom(1 / CLOSER);
    else if (event.key === "0") this.whole();
    else if (shifts[event.key] && this.#zoom > 1) this.#shift(...shifts[event.key]);
    else return;
    event.preventDefault();
  }

  #touch(event) {
    if (event.button !== 0) return;
    this.#pointers.set(event.pointerId, event);
    this.view.setPointerCapture(event.pointerId);
    if (this.#pointers.size === 1) this.#drag = this.grab(event);
    else [this.#drag] = [null, this.#drag?.end()];
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    this.#pointers.set(event.pointerId, event);
    const others = [...this.#pointers.values()].filter((each) => each.pointerId !== event.pointerId);
    if (!others.length && this.#drag) this.#drag.move(event);
    else if (!others.length) this.#shift(event.clientX - before.clientX, event.clientY - before.clientY);
    else {
      const [other] = others, apart = ({ clientX, clientY }) => Math.hypot(clientX - other.clientX, clientY - other.clientY);
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.#shift((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
      this.zoom(apart(event) / Math.max(apart(before), 1), middle);
    }
  }

  #leave(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    [this.#drag] = [null, this.#drag?.end()];
  }
}
