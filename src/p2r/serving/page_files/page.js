// The page: an image, questions about it, and their answers. Nothing is kept but in memory.

import { Drawer } from "./boxes.js";
import { Client, Problem } from "./client.js";
import { make } from "./elements.js";
import { Turn } from "./turn.js";
import { Viewer } from "./viewer.js";

const MODES = { p2r: "two looks", "": "as it is", direct: "one look, at once", thinking: "one look, step by step", tools: "zooms as it likes", zoom: "searches part by part" };
const LOOKS = ["p2r", "zoom"]; // modes that are told boxes
const MOST_BOXES = 64;

const get = (id) => document.getElementById(id);
const tell = (text) => (get("status").textContent = text);
const client = new Client();
const viewer = new Viewer(get("view"), get("stage"), get("full"));
const drawer = new Drawer(viewer, tell);
let image = ""; // a data: URL
let numOpened = 0; // images, so that the last one that was chosen wins
let name = ""; // of the model
let turns = []; // the newest last
let seen = null; // the turn whose boxes are on the image
let running = null;

function explain(error) {
  if (error.name === "AbortError") return "Stopped.";
  if (error instanceof Problem) return error.message;
  console.error(error);
  return "Something went wrong on this page.";
}

function complain(error) {
  if (error.status === 401) askForKey();
  get("problem").textContent = explain(error);
  get("problem").scrollIntoView({ block: "nearest" });
}

// The model and the key.

function askForKey() {
  get("key-form").hidden = false;
  get("key").focus();
}

const findMode = (id) => (id === `p2r/${name}` ? "p2r" : id.slice(name.length + 1));

async function listModels() {
  try {
    const ids = await client.models();
    name = ids[0];
    const modes = [`p2r/${name}`, ...ids.filter((id) => id !== `p2r/${name}` && id !== `${name}:p2r`)];
    get("model").replaceChildren(...modes.map((id) => new Option(`${id} (${MODES[findMode(id)]})`, id)));
    get("key-form").hidden = true;
    get("options").disabled = false;
    get("problem").textContent = "";
    return true;
  } catch (error) {
    complain(client.key || error.status !== 401 ? error : new Problem("", 401));
    return false;
  }
}

// The image.

function readUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Problem("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}

// Shows the image, or the ways to choose one.
function reveal(isShown) {
  get("empty").hidden = isShown;
  get("shown").hidden = !isShown;
}

async function open(file, question = "") {
  if (!file) return;
  get("problem").textContent = "";
  const number = ++numOpened;
  try {
    const url = await readUrl(file), trial = new Image();
    trial.src = url;
    await trial.decode().catch(() => {
      throw new Problem(`${file.name || "This"} is not an image that this browser can show: save it as PNG or JPEG.`);
    });
    if (number !== numOpened) return;
    running?.abort();
    stopDrawing();
    [image, turns] = [url, []];
    get("turns").replaceChildren();
    get("remember-label").hidden = true;
    reveal(true);
    await viewer.show(url);
    see(null);
    get("facts").textContent = `${file.name || "Image"}, ${get("full").naturalWidth} × ${get("full").naturalHeight} pixels`;
    tell(`${get("facts").textContent}.`);
    get("question").placeholder = "What would you like to know?";
    if (question) [get("question").value, get("options").value] = [question, ""];
    get(question ? "go" : "question").focus();
  } catch (error) {
    if (number === numOpened) complain(error);
  }
}

// Boxes on the image.

function see(turn) {
  seen = turn;
  viewer.showBoxes(turn?.boxes ?? []);
  for (const each of turns) each.find(".see").ariaPressed = String(each === turn);
  get("edit").textContent = turn?.boxes.length ? "Correct the boxes" : "Draw boxes";
}

function startDrawing() {
  drawer.open(seen?.boxes ?? []);
  get("drawing").hidden = false;
  get("edit").hidden = true;
}

function stopDrawing() {
  if (!drawer.isOpen) return;
  drawer.close();
  get("drawing").hidden = true;
  get("edit").hidden = false;
  see(seen);
}

// Questions.

function makeMessages(question, earlier) {
  const asked = [...earlier.map((turn) => turn.question), question].map((text) => ({ role: "user", content: [{ type: "text", text }] }));
  asked[0].content.unshift({ type: "image_url", image_url: { url: image } });
  return asked.flatMap((message, index) => (earlier[index] ? [message, { role: "assistant", content: earlier[index].answer }] : [message]));
}

function setRunning(controller) {
  running = controller;
  get("go").hidden = Boolean(controller);
  get("stop").hidden = !controller;
  get("ask-boxes").disabled = Boolean(controller);
  if (!document.activeElement.offsetParent) get(controller ? "stop" : "go").focus({ preventScroll: true }); // what had the focus is hidden
}

// What is to be asked, by the fields and the boxes that are drawn. With boxes, no new question means the last one again.
function readFields() {
  const field = get("question"), choices = get("options"), boxes = drawer.boxes;
  const again = boxes.length && !field.value.trim() ? seen : null;
  const question = again?.question ?? field.value.trim();
  const options = choices.disabled ? [] : choices.value.split("\n").map((text) => text.trim()).filter(Boolean);
  if (!image) throw new Problem("Choose an image first.");
  if (!question) {
    field.focus();
    throw new Problem("Write a question first.");
  }
  if (boxes.length > MOST_BOXES) throw new Problem(`${boxes.length} boxes are drawn: a question takes ${MOST_BOXES} at most.`);
  return { question, options: options.length ? options : (again?.options ?? []), boxes };
}

async function ask() {
  if (running) return;
  get("problem").textContent = "";
  let asked;
  try {
    asked = readFields();
  } catch (problem) {
    return complain(problem);
  }
  if ((!name && !(await listModels())) || running) return;
  const { question, options, boxes } = asked, field = get("question"), choices = get("options");
  const model = boxes.length && !LOOKS.includes(findMode(get("model").value)) ? `p2r/${name}` : get("model").value;
  const mode = findMode(model), isWalk = mode !== "", compares = get("direct").checked && isWalk && !boxes.length;
  const earlier = get("remember").checked ? turns.filter((turn) => turn.isDone && turn.answer && !(boxes.length && turn.question === question)) : [];
  const messages = makeMessages(question, earlier);
  const turn = new Turn(get("turn"), { ...asked, caption: MODES[mode], looks: LOOKS.includes(mode), isWalk, compares, tell });
  turn.find(".see").addEventListener("click", () => (stopDrawing(), see(seen === turn ? null : turn)));
  turn.find(".save").addEventListener("click", ({ currentTarget }) => save(currentTarget, turn.trace));
  stopDrawing();
  reveal(true);
  turns.push(turn);
  get("turns").prepend(turn.element);
  see(turn);
  turn.element.scrollIntoView({ block: "nearest" });
  const written = choices.value;
  field.value = choices.value = "";
  const controller = new AbortController();
  setRunning(controller);
  const request = (half, model, p2r) => {
    const take = (chunk) => {
      turn.take(half, chunk);
      if (chunk.p2r && seen === turn && !drawer.isOpen) see(turn);
    };
    return client.chat({ model, messages, ...(p2r && { p2r }) }, take, controller.signal).then(() => turn.end(half), (error) => {
      turn.fail(half, explain(error));
      if (half === "direct") return;
      if (!field.value) [field.value, choices.value] = [question, written];
      if (error.status === 401) askForKey();
    });
  };
  await Promise.all([
    request("own", model, isWalk && { images: true, prompts: true, trace: true, options, ...(boxes.length && { boxes }) }),
    compares && (options.length ? request("direct", `${name}:direct`, { options }) : request("direct", name)),
  ]);
  if (running === controller) setRunning(null);
  get("remember-label").hidden = !turns.some(({ isDone }) => isDone);
  if (turns.length) field.placeholder = "Ask a follow-up about the same image";
}

async function save(button, trace) {
  if (button.ariaBusy === "true") return;
  const text = button.textContent;
  [button.ariaBusy, button.textContent] = ["true", "Writing the evidence …"];
  try {
    const href = URL.createObjectURL(new Blob([await client.writeEvidence(image, trace)], { type: "text/html" }));
    make("a", { href, download: "evidence.html" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  } catch (error) {
    complain(error);
  }
  [button.ariaBusy, button.textContent] = ["false", text];
}

// What a person does.

for (const id of ["choose", "photo"]) {
  get(id).addEventListener("change", ({ target }) => open(target.files[0]).then(() => (target.value = "")));
}
for (const button of document.querySelectorAll("#examples button")) {
  button.addEventListener("click", async () => {
    const response = await fetch(button.dataset.url).catch(() => null);
    if (!response?.ok) return complain(new Problem("The example cannot be loaded."));
    open(new File([await response.blob()], "Example", { type: "image/png" }), button.dataset.question);
  });
}
document.addEventListener("paste", (event) => {
  const { files, types } = event.clipboardData;
  if (!files.length || types.includes("text/plain")) return; // a text goes where it is pasted
  event.preventDefault();
  open(files[0]);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") open(event.dataTransfer.files[0]);
  });
}
get("another").addEventListener("click", () => (reveal(false), (get("back").hidden = false), get("choose").focus()));
get("back").addEventListener("click", () => (reveal(true), get("another").focus()));
get("model").addEventListener("change", ({ target }) => (get("options").disabled = target.value === name));
get("closer").addEventListener("click", () => viewer.zoom(1.4));
get("farther").addEventListener("click", () => viewer.zoom(1 / 1.4));
get("whole").addEventListener("click", () => viewer.whole());
get("edit").addEventListener("click", () => (startDrawing(), get("add").focus({ preventScroll: true })));
get("add").addEventListener("click", () => drawer.add());
get("remove").addEventListener("click", () => (drawer.clear(), tell("All boxes removed.")));
get("done").addEventListener("click", () => (stopDrawing(), get("edit").focus()));
get("image").addEventListener("keydown", (event) => event.key === "Escape" && drawer.isOpen && get("done").click());
get("ask-boxes").addEventListener("click", () => (drawer.boxes.length ? ask() : complain(new Problem("Draw a box first."))));
get("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
get("ask").addEventListener("submit", (event) => (event.preventDefault(), ask()));
get("stop").addEventListener("click", ({ detail }) => detail < 2 && running?.abort()); // not the end of a double click on Ask
get("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  client.key = get("key").value.trim();
  get("key").value = "";
  if (await listModels()) get(image ? "question" : "choose").focus();
});
listModels();
