// What several files make of elements.

const COLORS = document.body.dataset.colors.split(" ");

export const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

// Makes an element. Texts among `inside` stay texts.
export function make(name, properties, ...inside) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...inside);
  return element;
}

// Gives an element the color of a box, by the box's number.
export function paint(element, number) {
  element.style.setProperty("--c", COLORS[number % COLORS.length]);
  return element;
}

// Puts an element where a box is: left, top, right, bottom per mille.
export function place(element, corners, number) {
  const [left, top, right, bottom] = corners.map((value) => clamp(value / 10, 0, 100));
  Object.assign(element.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
  element.classList.toggle("low", top < 7);
  element.classList.toggle("end", left > 70);
  return paint(element, number);
}

// The label of a box, as what is inside its element.
export const showLabel = (label) => (label ? [make("span", { dir: "auto" }, label)] : []);
