const about = JSON.parse(document.getElementById("about").textContent);
const state = document.getElementById("state");
const results = document.getElementById("results");
const names = about.mode === "fr" ? { ref: "Reference", dist: "Picture" } : { dist: "Picture" };
const given = {};
const waiting = new Map();
let number = 0;

function element(kind, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(kind), attributes);
  made.append(...children);
  return made;
}

function say(text, bad = false) {
  state.textContent = text;
  state.classList.toggle("bad", bad);
}

function bytes(text) {
  const binary = atob(text);
  const found = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) found[index] = binary.charCodeAt(index);
  return found;
}

function start() {
  // A page from the disk may start a worker of what it holds itself, but no module.
  const script = new Blob([bytes(RUNTIME.script)], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(script));
  worker.onerror = (event) => say(`The metric cannot run here: ${event.message || "the browser allows no worker"}`, true);
  worker.onmessage = ({ data }) => {
    if (data.ready) {
      document.documentElement.dataset.ready = "yes";
      return say("Ready.");
    }
    if (data.number === undefined) return say(`The metric cannot be loaded: ${data.error}`, true);
    const done = waiting.get(data.number);
    waiting.delete(data.number);
    done(data);
  };
  const wasm = bytes(RUNTIME.wasm), model = bytes(MODEL);
  worker.postMessage({ wasm, model }, [wasm.buffer, model.buffer]);
  return worker;
}

async function decode(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const area = width * height, planes = new Float32Array(3 * area);
  for (let pixel = 0; pixel < area; pixel++)
    for (let channel = 0; channel < 3; channel++) planes[channel * area + pixel] = data[4 * pixel + channel] / 255;
  return { planes, width, height };
}

function show(file, size, score, seconds) {
  const [low, high] = about.range;
  const share = Math.min(1, Math.max(0, (score - low) / (high - low)));
  const bar = element("i");
  bar.style.width = `${(100 * share).toFixed(1)}%`;
  const row = element("div", { className: "row" },
    element("img", { src: URL.createObjectURL(file), alt: "" }),
    element("div", {},
      element("div", { className: "name", textContent: file.name }),
      element("div", { className: "muted", textContent: `${size.width} × ${size.height}, ${seconds.toFixed(1)} s` }),
      element("div", { className: "scale" }, bar)),
    element("div", { className: "score", textContent: score.toFixed(4) }));
  row.dataset.score = score;
  results.hidden = false;
  results.querySelector(".rows").prepend(row);
}

async function score(pictures) {
  const begun = performance.now();
  say("Scoring…");
  const decoded = {};
  for (const name of Object.keys(names)) {
    try {
      decoded[name] = await decode(pictures[name]);
    } catch {
      return say(`${pictures[name].name} is no picture that this browser can read.`, true);
    }
  }
  const { dist, ref } = decoded;
  if (ref && (ref.width !== dist.width || ref.height !== dist.height))
    return say(`The picture is ${dist.width} × ${dist.height}, its reference ${ref.width} × ${ref.height}; both must have one size.`, true);
  const answer = await new Promise((done) => {
    waiting.set(++number, done);
    worker.postMessage({ number, pictures: decoded });
  });
  if (answer.error) return say(`${pictures.dist.name} cannot be scored: ${answer.error}`, true);
  show(pictures.dist, dist, answer.score, (performance.now() - begun) / 1000);
  say("Ready.");
}

let queue = Promise.resolve();
function take(name, files) {
  for (const file of files) {
    given[name] = file;
    const zone = document.querySelector(`.zone[data-name="${name}"]`);
    zone.querySelector(".seen").replaceChildren(
      element("img", { src: URL.createObjectURL(file), alt: "" }), element("br"), element("span", { textContent: file.name }));
    if (Object.keys(names).every((each) => given[each])) {
      const pictures = { ...given };
      queue = queue.then(() => score(pictures));
    }
  }
}

for (const [name, label] of Object.entries(names)) {
  const input = element("input", { type: "file", accept: "image/*", multiple: name === "dist" });
  const seen = element("div", { className: "seen" },
    element("strong", { textContent: label }), element("br"), "Drop it here, or click to choose");
  const zone = element("label", { className: "zone" }, input, seen);
  zone.dataset.name = name;
  input.setAttribute("aria-label", label);
  input.onchange = () => take(name, input.files);
  for (const kind of ["dragenter", "dragover"])
    zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(name, event.dataTransfer.files);
  });
  document.getElementById("zones").append(zone);
}
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("paste", (event) => take("dist", event.clipboardData.files));

const worker = start();
