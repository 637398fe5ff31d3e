// What several files make of elements.

export const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

// Makes an element. Texts among `inside` stay texts.
export function make(name, properties, ...inside) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...inside);
  return element;
}

// Puts an element where a box is: left, top, right, bottom per mille.
export function place(element, corners, color) {
  const [left, top, right, bottom] = corners.map((value) => clamp(value / 10, 0, 100));
  Object.assign(element.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
  element.style.setProperty("--c", color);
  element.classList.toggle("low", top < 7);
  element.classList.toggle("end", left > 70);
  return element;
}
