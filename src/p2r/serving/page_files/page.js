// The page: an image, questions about it, and their answers. Nothing is kept but in memory.

import { Drawer } from "./boxes.js";
import { Client, Problem } from "./client.js";
import { make } from "./elements.js";
import { Turn } from "./turn.js";
import { Viewer } from "./viewer.js";

const CAPTIONS = { p2r: "looks, then reads", "": "as it is", direct: "one look, at once", thinking: "one look, step by step", tools: "zooms as it likes", zoom: "searches part by part" };
const SHOWN_BOXES = /^p2r\/|:zoom$/; // models that read boxes

const get = (id) => document.getElementById(id);
const tell = (text) => (get("status").textContent = text);
const colors = document.body.dataset.colors.split(" ");
const client = new Client();
const viewer = new Viewer(get("view"), get("stage"), get("full"));
const drawer = new Drawer(viewer, colors, tell);
let image = ""; // a data: URL
let name = ""; // of the model
let turns = []; // the newest last
let seen = null; // the turn whose boxes are on the image
let running = null;

function complain(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) askForKey();
  get("problem").textContent = error instanceof Problem ? error.message : "Something went wrong on this page.";
  if (!(error instanceof Problem)) console.error(error);
}

// The model and the key.

function askForKey() {
  get("key-form").hidden = false;
  get("key").focus();
}

async function listModels() {
  try {
    const ids = await client.models();
    name = ids[0];
    const modes = [`p2r/${name}`, ...ids.filter((id) => id !== `p2r/${name}` && id !== `${name}:p2r`)];
    get("model").replaceChildren(...modes.map((id) => {
      const mode = id.startsWith("p2r/") ? "p2r" : id.slice(name.length + 1);
      return new Option(`${id} (${CAPTIONS[mode] ?? mode})`, id);
    }));
    get("key-form").hidden = true;
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

async function open(file, question = "") {
  if (!file) return;
  get("problem").textContent = "";
  try {
    const url = await readUrl(file), trial = new Image();
    trial.src = url;
    await trial.decode().catch(() => {
      throw new Problem(`${file.name || "This"} is not an image that this browser can show: save it as PNG or JPEG.`);
    });
    running?.abort();
    stopDrawing();
    [image, turns] = [url, []];
    get("turns").replaceChildren();
    get("remember-label").hidden = true;
    get("empty").hidden = true;
    get("shown").hidden = false;
    await viewer.show(url);
    see(null);
    get("facts").textContent = `${file.name || "Image"}, ${get("full").naturalWidth} × ${get("full").naturalHeight} pixels`;
    tell(`${get("facts").textContent}.`);
    if (question) get("question").value = question;
    get(question ? "go" : "question").focus();
  } catch (error) {
    complain(error);
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

function makeMessages(question, remembers) {
  const show = { type: "image_url", image_url: { url: image } };
  const earlier = remembers ? turns.filter((turn) => turn.isDone && turn.answer) : [];
  const asked = [...earlier.map((turn) => turn.question), question].map((text) => ({ role: "user", content: [{ type: "text", text }] }));
  asked[0].content.unshift(show);
  return asked.flatMap((message, index) => (earlier[index] ? [message, { role: "assistant", content: earlier[index].answer }] : [message]));
}

function setRunning(controller) {
  running = controller;
  get("go").hidden = Boolean(controller);
  get("stop").hidden = !controller;
  get("ask-boxes").disabled = Boolean(controller);
  if (!document.activeElement.offsetParent) get(controller ? "stop" : "go").focus(); // what had the focus is hidden
}

async function ask(boxes = null) {
  const field = get("question"), question = field.value.trim() || (boxes && seen?.question) || "";
  get("problem").textContent = "";
  if (running) return;
  if (!image) return complain(new Problem("Choose an image first."));
  if (!question) return complain(new Problem("Write a question first.")), field.focus();
  if (!name && !(await listModels())) return;
  const chosen = get("model").value, model = boxes && !SHOWN_BOXES.test(chosen) ? `p2r/${name}` : chosen;
  const compares = get("direct").checked && model !== name && !boxes;
  const messages = makeMessages(question, get("remember").checked && !boxes);
  const turn = new Turn(get("turn"), { question, isWalk: model !== name, compares, colors, tell });
  turn.find(".see").addEventListener("click", () => (stopDrawing(), see(seen === turn ? null : turn)));
  turn.find(".save").addEventListener("click", () => save(image, turn.trace).catch(complain));
  stopDrawing();
  turns.push(turn);
  get("turns").prepend(turn.element);
  see(turn);
  turn.element.scrollIntoView({ block: "nearest" });
  tell("Looking.");
  field.value = "";
  const controller = new AbortController();
  setRunning(controller);
  const options = { images: true, prompts: true, trace: true, ...(boxes && { boxes }) };
  const own = client.chat({ model, messages, ...(turn.isWalk && { p2r: options }) }, (chunk) => {
    turn.take(chunk);
    if (chunk.p2r && seen === turn && !drawer.isOpen) see(turn);
  }, controller.signal);
  const direct = compares && client.chat({ model: name, messages }, (chunk) => turn.takeDirect(chunk), controller.signal);
  const stopped = (error) => (error.name === "AbortError" ? "Stopped." : error.message);
  await Promise.all([
    own.then(() => turn.end(), (error) => {
      turn.fail(stopped(error));
      field.value ||= question;
      if (error.status === 401) askForKey();
      else if (!(error instanceof Problem || error.name === "AbortError")) complain(error);
    }),
    direct && direct.then(() => turn.endDirect(), (error) => turn.failDirect(stopped(error))),
  ]);
  if (running === controller) setRunning(null);
  get("remember-label").hidden = !turns.some(({ isDone }) => isDone);
  field.placeholder = turns.length ? "Ask a follow-up about the same image" : field.placeholder;
}

async function save(image, trace) {
  const href = URL.createObjectURL(new Blob([await client.writeEvidence(image, trace)], { type: "text/html" }));
  make("a", { href, download: "evidence.html" }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
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
get("another").addEventListener("click", () => {
  get("shown").hidden = true;
  get("empty").hidden = false;
  get("choose").focus();
});
get("closer").addEventListener("click", () => viewer.zoom(1.4));
get("farther").addEventListener("click", () => viewer.zoom(1 / 1.4));
get("whole").addEventListener("click", () => viewer.whole());
get("edit").addEventListener("click", () => (startDrawing(), get("add").focus()));
get("add").addEventListener("click", () => drawer.add());
get("remove").addEventListener("click", () => (drawer.clear(), tell("All boxes removed.")));
get("done").addEventListener("click", () => (stopDrawing(), get("edit").focus()));
get("image").addEventListener("keydown", (event) => event.key === "Escape" && drawer.isOpen && get("done").click());
get("ask-boxes").addEventListener("click", () => (drawer.boxes.length ? ask(drawer.boxes) : complain(new Problem("Draw a box first."))));
get("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
get("ask").addEventListener("submit", (event) => (event.preventDefault(), ask()));
get("stop").addEventListener("click", () => running?.abort());
get("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  client.key = get("key").value.trim();
  get("key").value = "";
  if (await listModels()) get(image ? "question" : "choose").focus();
});
listModels();
