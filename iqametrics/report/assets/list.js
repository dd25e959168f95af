// The list of pictures: only the rows that can be seen are in the page, so ten thousand scroll as ten do.

const ROW = 68; // height of a row, as in report.css
const SPARE = 6; // rows beyond either edge

const list = byId("list");
const head = el("div", { class: "row head", role: "row" });
const space = el("div", { class: "space", role: "presentation" });
const windowOfRows = el("div", { class: "window", role: "rowgroup" });
let active = 0; // place of the row that has the focus

list.append(el("div", { class: "head-group", role: "rowgroup" }, head), space);
space.append(windowOfRows);

/** Columns of the present state: key to sort by, heading, and what fills a cell. */
function columns() {
  const metric = state.metric;
  const found = [
    { key: null, label: "Rank", class: "rank", cell: (i) => [rankText(i)] },
    { key: "name", label: "Picture", class: "picture", cell: pictureCell },
    { key: "score", label: data.metrics[metric].name, class: "score", cell: scoreCell },
  ];
  if (data.against) found.push({ key: "change", label: "Change", class: "change", cell: changeCell });
  if (data.mos) {
    found.push({ key: "mos", label: "Opinion", class: "number", cell: (i) => [number(mosOf(i), 3)] });
    found.push({
      key: "residual", label: "Residual", class: "number", cell: (i) => [signed(residualOf(i, metric), 3)],
    });
  }
  data.metrics.forEach((other, index) => {
    if (index === metric || found.length > 6) return;
    found.push({
      key: `metric${index}`, label: other.name, class: "number", cell: (i) => [number(scoreOf(i, index))],
    });
  });
  return found;
}

const rankText = (i) => {
  const rank = summary().ranks.get(i);
  return rank === undefined ? "\u2013" : count(rank);
};

function pictureCell(i) {
  const path = data.images[i];
  const badges = [
    errorOf(i) ? el("span", { class: "badge bad" }, "error") : null,
    failOf(i) ? el("span", { class: "badge bad" }, `fails: ${failOf(i)}`) : null,
    summary().outliers.has(i) ? el("span", { class: "badge" }, "outlier") : null,
    data.maps[path] ? el("span", { class: "badge good" }, "maps") : null,
  ];
  const below = errorOf(i) ?? folderOf(path);
  return [
    thumbnail(path),
    el("span", { class: "names" },
      el("span", { class: "name" }, nameOf(path), " ", ...badges),
      el("span", { class: errorOf(i) ? "folder bad" : "folder", title: below }, below)),
  ];
}

function thumbnail(path) {
  const address = addressOf(path);
  const frame = el("span", { class: "thumb" });
  if (address === null || isFrame(path)) {
    frame.append(isFrame(path) ? "\u25B6" : "");
    return frame;
  }
  const image = el("img", { alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith("\u2205"));
  image.src = address;
  frame.append(image);
  return frame;
}

function scoreCell(i) {
  const score = scoreOf(i, state.metric);
  if (score === null) return ["\u2013"];
  const { sorted } = summary();
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const share = high > low ? (score - low) / (high - low) : 1;
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  const fill = el("span", { class: "fill" });
  fill.style.width = `${(2 + 98 * share).toFixed(1)}%`;
  bar.append(fill);
  return [el("span", {}, number(score)), bar];
}

function changeCell(i) {
  const change = differenceOf(i, state.metric);
  if (change === null) return ["\u2013"];
  const better = gain(change, state.metric);
  const tone = Math.abs(better) <= 1e-5 ? "" : better > 0 ? "good" : "bad";
  return [el("span", { class: tone }, signed(change))];
}

function drawHead() {
  const found = columns();
  const widths = {
    rank: "2.8rem",
    picture: "minmax(11rem, 1fr)",
    score: "clamp(6rem, 10vw, 9.5rem)",
    change: "clamp(4.6rem, 7vw, 6.5rem)",
    number: "clamp(4.6rem, 7vw, 7rem)",
  };
  list.style.setProperty("--columns", found.map((column) => widths[column.class]).join(" "));
  list.setAttribute("aria-colcount", found.length);
  list.classList.toggle("two-runs", Boolean(data.against));
  head.replaceChildren(...found.map(headCell));
}

function headCell(column) {
  if (column.key === null) return el("span", { role: "columnheader", class: column.class }, column.label);
  const current = state.sort.key === column.key;
  const arrow = !current ? "" : state.sort.reverse ? " \u2193" : " \u2191";
  const button = el("button", { type: "button", title: column.label }, column.label + arrow);
  button.addEventListener("click", () => {
    update({ sort: { key: column.key, reverse: current && !state.sort.reverse } });
    // The heads were drawn anew.
    head.querySelector(`[data-key="${column.key}"] button`).focus();
  });
  const order = !current ? "none" : state.sort.reverse ? "descending" : "ascending";
  return el("span", { role: "columnheader", class: column.class, "aria-sort": order, "data-key": column.key }, button);
}

function rowElement(place) {
  const i = state.shown[place];
  const cells = columns().map((column) => el("span", { role: "gridcell", class: column.class }, ...column.cell(i)));
  const row = el(
    "div",
    { role: "row", class: "row", tabindex: place === active ? 0 : -1, "aria-rowindex": place + 2, "data-place": place },
    ...cells,
  );
  row.addEventListener("click", () => openViewer(place));
  return row;
}

/** Put the rows that can be seen into the page. */
function drawRows() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const last = Math.min(state.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
  const focused = windowOfRows.contains(document.activeElement);
  const key = `${first}-${last}-${active}`;
  if (windowOfRows.dataset.key === key) return;
  windowOfRows.dataset.key = key;
  windowOfRows.style.transform = `translateY(${first * ROW}px)`;
  const places = Array.from({ length: Math.max(0, last - first) }, (_, offset) => first + offset);
  windowOfRows.replaceChildren(...places.map(rowElement));
  if (focused) windowOfRows.querySelector(`[data-place="${active}"]`)?.focus({ preventScroll: true });
}

/** Give a row the focus, and bring it into sight. */
function focusRow(place) {
  active = Math.max(0, Math.min(state.shown.length - 1, place));
  const [top, bottom] = [active * ROW, (active + 1) * ROW + head.offsetHeight];
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  drawRows();
  windowOfRows.querySelector(`[data-place="${active}"]`)?.focus({ preventScroll: true });
}

const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

list.addEventListener("keydown", (event) => {
  if (!event.target.dataset.place) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    openViewer(Number(event.target.dataset.place));
  } else if (event.key in STEPS) {
    event.preventDefault();
    focusRow(Number(event.target.dataset.place) + STEPS[event.key]);
  }
});

let drawing = 0;
list.addEventListener("scroll", () => {
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(drawRows);
});
new ResizeObserver(() => drawRows()).observe(list);

onChange(() => {
  active = 0;
  list.scrollTop = 0;
  list.setAttribute("aria-rowcount", state.shown.length + 1);
  space.style.height = `${state.shown.length * ROW}px`;
  windowOfRows.dataset.key = "";
  drawHead();
  drawRows();
});
