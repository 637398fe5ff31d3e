// An image in a window: zoomed and moved by pointer, wheel, pinch, keys and buttons. Boxes lie on it, in per cent.

import { clamp, make, place, showLabel } from "./elements.js";

const CLOSER = 1.4, MOST = 24, STEP_PX = 60;

export class Viewer {
  grab = () => null; // given a pointer's event, what is told of its moves, in place of the image
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

  // Boxes as { per_mille, label }.
  showBoxes(boxes) {
    for (const old of this.stage.querySelectorAll(".box")) old.remove();
    this.stage.append(...boxes.map(({ per_mille, label }, index) => place(make("i", { className: "box own", ariaHidden: "true" }, ...showLabel(label)), per_mille, index)));
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
    this.#drag = this.#pointers.size === 1 ? this.grab(event) : null;
  }

  #move(event) {
    const { pointerId, clientX, clientY } = event, before = this.#pointers.get(pointerId);
    if (!before) return;
    this.#pointers.set(pointerId, event);
    const other = [...this.#pointers.values()].find((each) => each.pointerId !== pointerId);
    if (this.#drag) this.#drag(event);
    else if (!other) this.#shift(clientX - before.clientX, clientY - before.clientY);
    else {
      const apart = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      this.#shift((clientX - before.clientX) / 2, (clientY - before.clientY) / 2);
      this.zoom(apart(event) / Math.max(apart(before), 1), { clientX: (clientX + other.clientX) / 2, clientY: (clientY + other.clientY) / 2 });
    }
  }

  #leave({ pointerId }) {
    if (this.#pointers.delete(pointerId)) this.#drag = null;
  }
}
