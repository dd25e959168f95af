// The dialog of one picture: at full size, against its reference or the other run, with maps and numbers.

const viewer = byId("viewer");
const stage = new Stage();
const open = { place: 0, mode: null, partner: data.against ? "other" : "reference", map: "", opacity: 0.6 };
let parts = null;

/** Show the picture at a place of the list. */
function openViewer(place) {
  open.place = place;
  if (!parts) build();
  if (!viewer.open) viewer.showModal();
  drawViewer();
  stage.node.focus({ preventScroll: true });
}

/** Show a picture by its number, also where the list does not show it. */
function openPicture(i) {
  if (!state.shown.includes(i)) update({ query: "", folder: "", status: "all", range: null });
  openViewer(state.shown.indexOf(i));
}

/** What a picture can be compared with: label, path and address by kind. */
function partners(i) {
  const found = {};
  const reference = referenceOf(i);
  if (reference) found.reference = { label: "Reference", path: reference, address: addressOf(reference) };
  const other = data.against?.images[i];
  if (other && (other !== data.images[i] || !reference)) {
    found.other = { label: data.against.title, path: other, address: addressOf(other) };
  }
  return found;
}

const choice = (label, ...options) => el("select", { "aria-label": label }, ...options);
const option = (value, label) => el("option", { value }, label);
const tool = (label, name, action) => el("button", { type: "button", class: "quiet", "aria-label": name, title: name, onclick: action }, label);

function build() {
  parts = {
    name: el("h2", { id: "viewer-name" }),
    place: el("span", { class: "muted", role: "status" }),
    modes: el("div", { class: "modes", role: "group", "aria-label": "How to compare" },
      ...Object.keys(MODES).map(modeButton)),
    partner: choice("Compare with"),
    map: choice("Explanation map"),
    opacity: el("input", { type: "range", min: 0, max: 1, step: 0.05, value: open.opacity, "aria-label": "Opacity of the map" }),
    gain: el("input", { type: "range", min: 1, max: 16, step: 0.5, value: 4, "aria-label": "Gain of the difference" }),
    zoom: el("output", { class: "zoom" }),
    facts: el("div", { class: "facts" }),
  };
  parts.mapTools = el("label", { class: "field" }, "Map ", parts.map, parts.opacity);
  parts.gainTools = el("label", { class: "field" }, "Gain ", parts.gain);
  parts.partnerTools = el("label", { class: "field" }, "with ", parts.partner);
  viewer.append(
    el("header", {}, parts.name, parts.place,
      tool("\u2190", "Previous picture", () => step(-1)), tool("\u2192", "Next picture", () => step(1)),
      tool("\u2715", "Close", () => viewer.close())),
    el("div", { class: "tools" }, parts.modes, parts.partnerTools, parts.mapTools, parts.gainTools,
      el("span", { class: "zooms", role: "group", "aria-label": "Zoom" },
        tool("\u2212", "Zoom out", () => stage.zoom(1 / ZOOM_STEP)), parts.zoom, tool("+", "Zoom in", () => stage.zoom(ZOOM_STEP)),
        tool("Fit", "Fit to the window", () => stage.fit()), tool("1:1", "One pixel as one pixel", fullSize))),
    el("div", { class: "body" }, stage.node, parts.facts),
  );
  parts.partner.addEventListener("change", () => { open.partner = parts.partner.value; drawViewer(); });
  parts.map.addEventListener("change", () => { open.map = parts.map.value; drawMap(); });
  parts.opacity.addEventListener("input", () => { open.opacity = Number(parts.opacity.value); drawMap(); });
  parts.gain.addEventListener("input", () => stage.setGain(parts.gain.value));
  stage.setGain(4);
  stage.onZoom = drawZoom;
  viewer.addEventListener("keydown", viewerKey);
  viewer.addEventListener("close", () => { stage.setMode("single"); focusRow(open.place); });
}

const fullSize = () => stage.zoom(1 / (stage.view.scale * (window.devicePixelRatio || 1)));

function step(by) {
  const place = open.place + by;
  if (place >= 0 && place < state.shown.length) openViewer(place);
}

function drawZoom() {
  const shown = stage.view.scale * (window.devicePixelRatio || 1) * 100;
  parts.zoom.textContent = `${Math.round(shown)}%`;
}

function drawViewer() {
  const i = state.shown[open.place];
  const path = data.images[i];
  const found = partners(i);
  const kinds = Object.keys(found);
  if (!kinds.includes(open.partner)) open.partner = kinds[0] ?? "reference";
  parts.name.textContent = nameOf(path);
  parts.place.textContent = `${count(open.place + 1)} of ${count(state.shown.length)}`;
  parts.partnerTools.hidden = kinds.length < 2;
  parts.partner.replaceChildren(...kinds.map((kind) => option(kind, found[kind].label)));
  parts.partner.value = open.partner;
  const label = data.against && open.partner === "other" ? "This run" : "Picture";
  stage.mode = kinds.length ? open.mode ?? "side" : "single";
  stage.show([{ label, path, address: addressOf(path) }, found[open.partner] ?? null]);
  drawModes(kinds.length > 0);
  drawMaps(path);
  parts.facts.replaceChildren(...facts(i));
}

function drawModes(both) {
  parts.gainTools.hidden = stage.mode !== "difference";
  parts.modes.hidden = !both;
  // The buttons stay the same ones, so that they keep the focus.
  for (const button of parts.modes.children) button.setAttribute("aria-pressed", String(stage.mode === button.dataset.mode));
}

const modeButton = (mode, index) => el("button", {
  type: "button", "data-mode": mode, title: `Key ${index + 1}`, onclick: () => setMode(mode),
}, MODES[mode]);

function setMode(mode) {
  open.mode = mode;
  stage.setMode(mode);
  drawModes(stage.both);
}

/** Offer the maps of a picture, those of the present metric first. */
function drawMaps(path) {
  const found = [...(data.maps[path] ?? [])];
  const present = data.metrics[state.metric].name;
  found.sort((a, b) => (b.metric === present) - (a.metric === present));
  parts.mapTools.hidden = !found.length;
  const named = (map) => `${map.metric}: ${map.name}`;
  parts.map.replaceChildren(option("", "none"), ...found.map((map) => option(named(map), named(map))));
  parts.map.value = found.some((map) => named(map) === open.map) ? open.map : "";
  drawMap();
}

function drawMap() {
  const path = data.images[state.shown[open.place]];
  const map = (data.maps[path] ?? []).find((found) => `${found.metric}: ${found.name}` === parts.map.value);
  stage.setMap(map?.png ?? null, open.opacity);
  parts.opacity.disabled = !map;
  parts.map.title = map ? `from ${map.low.toPrecision(3)} (dark) to ${map.high.toPrecision(3)} (bright)` : "";
}

/** What is known of one score besides the number. */
function scoreNotes(i, index) {
  const notes = [];
  notes.push(placed(scoreOf(i, index), index));
  if (index === state.metric) notes.push(`rank ${rankText(i)} of ${count(summary().order.length)}, 1 the worst`);
  const change = differenceOf(i, index);
  if (change !== null) {
    const better = gain(change, index);
    const tone = Math.abs(better) <= 1e-5 ? "" : better > 0 ? "good" : "bad";
    notes.push(el("span", {}, el("span", { class: tone }, signed(change)), ` from ${number(otherOf(i, index))} in ${data.against.title}`));
    notes.push(preferred(scoreOf(i, index), otherOf(i, index), index));
  }
  const residual = residualOf(i, index);
  if (residual !== null) notes.push(`opinion ${signed(residual, 3)} from the curve`);
  return notes.filter((note) => note !== null).map((note) => el("small", {}, note));
}

/** Numbers of a picture, as a list of terms. */
function facts(i) {
  const terms = [];
  const add = (term, ...value) => terms.push(el("dt", {}, term), el("dd", {}, ...value));
  data.metrics.forEach((metric, index) => {
    const score = scoreOf(i, index);
    if (score !== null) add(metric.name, el("strong", {}, number(score)), ...scoreNotes(i, index));
  });
  if (mosOf(i) !== null) add("Opinion", number(mosOf(i)));
  if (failOf(i)) add("Fails", failOf(i));
  if (errorOf(i)) add("Error", errorOf(i));
  const path = data.images[i];
  add("Path", el("code", {}, path), copyButton("Copy path", path));
  if (referenceOf(i)) add("Reference", el("code", {}, referenceOf(i)), copyButton("Copy path", referenceOf(i)));
  return [el("dl", {}, ...terms), el("p", { class: "keys" }, "\u2190 \u2192 pictures \u00B7 + \u2212 zoom \u00B7 0 fit \u00B7 "
    + "Shift+arrows move \u00B7 1\u20135 compare \u00B7 Space switches \u00B7 C copies the path \u00B7 Esc closes")];
}

const MOVE = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };

function viewerKey(event) {
  if (["SELECT", "INPUT"].includes(event.target.tagName)) return;
  const { key } = event;
  const modes = Object.keys(MODES);
  if (event.shiftKey && key in MOVE) stage.move(...MOVE[key]);
  else if (key === "ArrowLeft") step(-1);
  else if (key === "ArrowRight") step(1);
  else if (key === "+" || key === "=") stage.zoom(ZOOM_STEP);
  else if (key === "-") stage.zoom(1 / ZOOM_STEP);
  else if (key === "0") stage.fit();
  else if (key === "c" && !event.ctrlKey && !event.metaKey) viewer.querySelector(".facts button").click();
  else if (key === " " && event.target === stage.node && stage.mode === "blink") stage.flip();
  else if (modes[key - 1] && stage.both) setMode(modes[key - 1]);
  else return;
  event.preventDefault();
}
