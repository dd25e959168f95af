// Title, filters, export, and the first drawing.

const LOOKS = { auto: "System", light: "Light", dark: "Dark" };

function drawTitle() {
  const metric = data.metrics[state.metric];
  document.title = `${data.title} \u2013 iqametrics`;
  byId("title").textContent = data.against ? `${data.title} against ${data.against.title}` : data.title;
  const better = metric.higher ? "higher is better" : "lower is better";
  byId("lead").textContent = `${count(pictures)} pictures by ${metric.name}; ${better}.${metric.paper ? ` ${metric.paper}.` : ""}`;
}

function drawCount() {
  const all = state.shown.length === pictures ? "" : ` of ${count(pictures)}`;
  byId("count").textContent = `${count(state.shown.length)}${all} pictures`;
  byId("none").hidden = state.shown.length > 0;
}

/** Bring the fields to what the state says; `range` may have come from the brush. */
function drawFields(changes) {
  for (const [id, end] of [["low", 0], ["high", 1]]) {
    if ("range" in changes && document.activeElement !== byId(id)) {
      byId(id).value = Number.isFinite(state.range?.[end]) ? state.range[end].toFixed(4) : "";
    }
  }
  byId("query").value = state.query;
  byId("folder").value = state.folder;
  byId("status").value = state.status;
}

/** Folders of the pictures and the folders that these are in, but those that hold all pictures. */
function knownFolders() {
  const found = new Map();
  for (const path of data.images) {
    for (let end = path.search(/[/\\]/); end >= 0; end = next(path, end)) {
      const folder = path.slice(0, end + 1);
      found.set(folder, (found.get(folder) ?? 0) + 1);
    }
  }
  return [...found.keys()].filter((folder) => found.get(folder) < pictures).sort(names.compare);
}

function next(path, from) {
  const step = path.slice(from + 1).search(/[/\\]/);
  return step < 0 ? -1 : from + 1 + step;
}

function fillChoices() {
  byId("metric").replaceChildren(...data.metrics.map((metric, i) => option(i, metric.name)));
  const folders = knownFolders();
  byId("folder").replaceChildren(option("", "all folders"), ...folders.map((folder) => option(folder, folder)));
  byId("folder").closest("label").hidden = folders.length < 2;
  byId("metric").closest("label").hidden = data.metrics.length < 2;
  byId("status").replaceChildren(...knownStatuses().map((key) => option(key, STATUSES[key][0])));
}

function readRange() {
  const [low, high] = [byId("low").value, byId("high").value];
  const range = [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
  update({ range: low === "" && high === "" ? null : range });
}

let typing = 0;

function listenToFields() {
  byId("metric").addEventListener("change", (event) => update({ metric: Number(event.target.value) }));
  byId("folder").addEventListener("change", (event) => update({ folder: event.target.value }));
  byId("status").addEventListener("change", (event) => update({ status: event.target.value }));
  byId("query").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => update({ query: event.target.value }), 80);
  });
  for (const id of ["low", "high"]) byId(id).addEventListener("change", readRange);
  byId("clear").addEventListener("click", () => update({ query: "", folder: "", status: "all", range: null }));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("export").addEventListener("click", exportCsv);
}

/** A cell of CSV; no text is a formula to a spreadsheet. */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `./${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Save the rows that are shown, as `score` writes them, with the columns of the comparison where there is one. */
function exportCsv() {
  const head = ["image", "reference", "metric", "score", ...(data.against ? ["other", "change"] : []),
    ...(data.mos ? ["mos", "residual"] : []), "error", "fingerprint"];
  const lines = state.shown.flatMap((i) => data.metrics.map((metric, index) => [
    data.images[i], referenceOf(i), metric.name, scoreOf(i, index),
    ...(data.against ? [otherOf(i, index), differenceOf(i, index)] : []),
    ...(data.mos ? [mosOf(i), residualOf(i, index)] : []), errorOf(i), metric.fingerprint,
  ]));
  const text = [head, ...lines].map((line) => line.map(csvCell).join(",")).join("\n") + "\n";
  const link = el("a", { download: "selection.csv", href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function listenToTheme() {
  const looks = Object.keys(LOOKS);
  let look = 0;
  const button = byId("theme");
  const draw = () => {
    document.documentElement.dataset.theme = looks[look];
    button.textContent = `Look: ${LOOKS[looks[look]]}`;
  };
  button.removeAttribute("aria-pressed");
  button.addEventListener("click", () => {
    look = (look + 1) % looks.length;
    draw();
    drawPanels();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPanels);
  draw();
}

function drawFooter() {
  const made = data.metrics.filter((metric) => metric.fingerprint);
  const terms = made.map((metric) => el("li", {}, el("code", {}, metric.fingerprint), copyButton("Copy", metric.fingerprint)));
  byId("footer").replaceChildren(
    terms.length ? el("div", {}, el("h2", {}, "Fingerprints"), el("ul", {}, ...terms)) : "",
    el("p", { class: "muted" }, "Equal fingerprints mean equal weights, preprocessing and versions. This file asks for "
      + "nothing but its pictures."),
  );
  byId("notes").replaceChildren(...data.notes.map((text) => el("p", { class: "note" }, text)));
}

fillChoices();
listenToFields();
listenToTheme();
drawFooter();
onChange(drawTitle);
onChange(drawCount);
onChange(drawFields);
update(data.against ? { sort: { key: "change", reverse: false } } : {});
