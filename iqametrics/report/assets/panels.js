// Figures and plots above the list.

const panels = byId("panels");
const drawn = []; // functions that draw the plots of the panels

/** Add a panel, whose plot is drawn when it is seen and whenever something changes. */
function addPanel(title, text, nodes, draw, wide = false) {
  const heading = el("h2", {}, title);
  const caption = typeof text === "string" ? el("p", { class: "caption" }, text) : text;
  panels.append(el("section", { class: wide ? "panel wide" : "panel", "aria-label": title }, heading, caption, ...nodes));
  if (draw) drawn.push(draw);
}

function figure(label, value, note = "") {
  return el("div", { class: "figure" }, el("dt", {}, label), el("dd", {}, value), el("small", {}, note));
}

function drawFigures() {
  const { sorted, order, outliers: far } = summary();
  const errors = Object.keys(data.errors).length;
  const found = [figure("Pictures", count(pictures), `${count(sorted.length)} scored`)];
  if (sorted.length) {
    const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
    found.push(
      figure("Mean", number(mean), `median ${number(quantile(sorted, 0.5))}`),
      figure("Worst", number(scoreOf(order[0], state.metric)), nameOf(data.images[order[0]])),
      figure("Best", number(scoreOf(order.at(-1), state.metric)), nameOf(data.images[order.at(-1)])),
      figure("Outliers", count(far.size), "beyond 1.5 interquartile ranges"),
    );
  }
  if (errors) found.push(figure("Errors", count(errors), "see Show: with an error"));
  if (Object.keys(data.fails).length) found.push(figure("Fail the gate", count(Object.keys(data.fails).length)));
  byId("figures").replaceChildren(el("dl", {}, ...found));
}

function addHistogram() {
  const plot = new Histogram({ label: "Histogram of the scores", y: "pictures", height: 280 });
  const caption = "Drag over the bars to keep the pictures in between; click to show all again. From and To below do the "
    + "same by keyboard.";
  addPanel("Distribution", caption, [plot.node], () => plot.draw());
}

/** A button with the name of a picture that opens it. */
function pictureLink(i, text) {
  const button = el("button", { type: "button", class: "link", title: data.images[i] }, nameOf(data.images[i]));
  button.addEventListener("click", () => openPicture(i));
  return el("li", {}, button, el("span", { class: "value" }, text));
}

const NAMED = 5;

function addRanking() {
  const lists = el("div", { class: "ranking" });
  const fill = () => {
    const { order, outliers: far } = summary();
    const score = (i) => pictureLink(i, number(scoreOf(i, state.metric)));
    const change = (i) => pictureLink(i, signed(differenceOf(i, state.metric)));
    const parts = [["Worst", order.slice(0, NAMED).map(score)], ["Best", order.slice(-NAMED).reverse().map(score)]];
    if (data.against) {
      const moved = rows.filter((i) => differenceOf(i, state.metric) !== null);
      moved.sort((a, b) => gain(differenceOf(a, state.metric) - differenceOf(b, state.metric), state.metric));
      parts.unshift(["Got worse", moved.slice(0, NAMED).map(change)], ["Got better", moved.slice(-NAMED).reverse().map(change)]);
      const changes = rows.map((i) => differenceOf(i, state.metric));
      const beyond = outliers(changes);
      parts.push(["Outliers of the change", moved.filter((i) => beyond.has(i)).slice(0, NAMED).map(change)]);
    }
    parts.push(["Outliers", order.filter((i) => far.has(i)).slice(0, NAMED).map(score)]);
    if (data.opinions) parts.push(["Worst disagreements", disagreements()]);
    const full = parts.filter(([, items]) => items.length);
    lists.replaceChildren(...full.map(([title, items]) => el("div", {}, el("h3", {}, title), el("ol", {}, ...items))));
  };
  addPanel("Ranking", "", [lists], fill, true);
}

/** Pictures that opinion and metric disagree on, by what the curve misses. */
function disagreements() {
  const known = rows.filter((i) => residualOf(i, state.metric) !== null);
  known.sort((a, b) => Math.abs(residualOf(b, state.metric)) - Math.abs(residualOf(a, state.metric)));
  return known.slice(0, NAMED).map((i) => pictureLink(i, signed(residualOf(i, state.metric), 3)));
}

const verdict = (change) => (change.worse ? "worse" : improved(change) ? "better" : "no clear difference");

/** Whether the whole interval is on the better side. */
function improved(change) {
  const metric = data.metrics.findIndex((found) => found.name === change.metric);
  return change.low !== null && (data.metrics[metric].higher ? change.low > 1e-5 : change.high < -1e-5);
}

function addAgainst() {
  const plot = new Plot({ label: "Scores of both runs", y: "this run", x: data.against.title, height: 280 });
  const told = el("div", { class: "told" });
  const draw = () => {
    const metric = state.metric;
    const found = rows.filter((i) => differenceOf(i, metric) !== null)
      .map((i) => [otherOf(i, metric), scoreOf(i, metric), i]);
    told.replaceChildren(...changeWords(data.against.changes[metric]));
    const range = padded(found.flatMap(([x, y]) => [x, y]));
    plot.prepare(range, range);
    plot.line([[range[0], range[0]], [range[1], range[1]]], "diagonal");
    plot.points(found, new Set(state.shown), changeTone);
  };
  addPanel(`Against ${data.against.title}`, told, [plot.node], draw);
}

function changeTone(i) {
  const better = gain(differenceOf(i, state.metric), state.metric);
  return Math.abs(better) <= 1e-5 ? "--muted" : better > 0 ? "--good" : "--bad";
}

/** All differences in order, what got worse first, with their mean and its interval. */
function addDifferences() {
  const plot = new Plot({ label: "Differences, sorted", x: "pictures, what got worse first", y: "difference", height: 280 });
  const draw = () => {
    const metric = state.metric;
    const change = data.against.changes[metric];
    const found = rows.filter((i) => differenceOf(i, metric) !== null)
      .sort((a, b) => gain(differenceOf(a, metric) - differenceOf(b, metric), metric))
      .map((i, place) => [place + 1, differenceOf(i, metric), i]);
    const span = [0.4, found.length + 0.6];
    plot.prepare(span, padded([0, ...found.map(([, difference]) => difference)], 0.08));
    plot.stems(found, changeTone);
    plot.line(span.map((x) => [x, 0]), "diagonal");
    if (change && change.low !== null) {
      plot.band(span.map((x) => [x, (change.low + change.high) / 2]), (change.high - change.low) / 2);
    }
    if (change) plot.line(span.map((x) => [x, change.difference]), "curve");
    plot.points(found, new Set(state.shown), changeTone);
  };
  addPanel("Differences, sorted", "One point a picture: this run minus the other. The line is the mean, the band its 95% "
    + "bootstrap interval.", [plot.node], draw);
}

function changeWords(change) {
  if (!change) return ["No picture has a score by this metric in both runs."];
  const words = verdict(change);
  const interval = change.low === null ? "no interval (one group)"
    : `95% bootstrap interval ${signed(change.low)} to ${signed(change.high)}`;
  const p = change.p_value === null ? "" : `, Wilcoxon p ${change.p_value < 0.001 ? "< 0.001" : change.p_value.toFixed(3)}`;
  const tone = change.worse ? "badge bad" : improved(change) ? "badge good" : "badge";
  return [
    el("p", {}, el("strong", {}, signed(change.difference)), " on average ", el("span", { class: tone }, words)),
    el("p", { class: "caption" }, `${interval}${p}; ${count(change.n)} pictures: ${count(change.wins)} better, `
      + `${count(change.losses)} worse, ${count(change.ties)} equal. Points below the line got `
      + `${data.metrics[state.metric].higher ? "worse" : "better"}.`),
  ];
}

function addOpinions() {
  const scatter = new Plot({ label: "Opinion scores over scores, with the fitted curve", x: "score", y: "opinion", height: 280 });
  const misses = new Plot({ label: "Residuals over scores", x: "score", y: "residual", height: 280 });
  const told = el("p", { class: "caption" });
  const draw = () => {
    const metric = state.metric;
    const view = data.opinions[metric];
    const known = rows.filter((i) => mosOf(i) !== null && scoreOf(i, metric) !== null);
    const shown = new Set(state.shown);
    scatter.words.x = misses.words.x = data.metrics[metric].name;
    const range = padded(known.map((i) => scoreOf(i, metric)));
    scatter.prepare(range, padded(known.map(mosOf), 0.08));
    told.textContent = view ? opinionWords(view) : "Too few pictures have an opinion score.";
    if (view?.band) scatter.band(view.curve, view.band);
    scatter.points(known.map((i) => [scoreOf(i, metric), mosOf(i), i]), shown);
    if (view?.curve.length) scatter.line(view.curve, "curve");
    const missed = known.filter((i) => residualOf(i, metric) !== null);
    misses.prepare(range, padded(missed.map((i) => residualOf(i, metric)), 0.08));
    misses.line([[range[0], 0], [range[1], 0]], "diagonal");
    misses.points(missed.map((i) => [scoreOf(i, metric), residualOf(i, metric), i]), shown);
  };
  addPanel("Against opinion", told, [scatter.node], draw);
  addPanel("Residuals", "Opinion minus the curve: above the line, people like the picture better than the metric does. "
    + "Sort by Residual for the worst disagreements.", [misses.node], null);
}

function opinionWords({ figures, band }) {
  const interval = figures.srcc_low === undefined ? "" : ` (95% interval ${number(figures.srcc_low, 3)} to ${number(figures.srcc_high, 3)})`;
  const fitted = figures.plcc_logistic === undefined ? "" : `, PLCC after the curve ${number(figures.plcc_logistic, 3)}`;
  const width = band ? " The band holds 95 of 100 pictures, if residuals are normal." : "";
  return `SRCC ${number(figures.srcc, 3)}${interval}${fitted}, ${count(figures.n)} pictures.${width}`;
}

/** Curves over time, one panel for each video. */
function addVideos() {
  const videos = new Map();
  for (const i of rows.filter((i) => isFrame(data.images[i]))) {
    videos.set(videoOf(i), [...(videos.get(videoOf(i)) ?? []), i]);
  }
  for (const [video, frames] of videos) {
    const plot = new Plot({ label: `Scores over time of ${video}`, x: "seconds", height: 200 });
    const told = el("p", { class: "caption" });
    const draw = () => {
      const known = frames.filter((i) => scoreOf(i, state.metric) !== null);
      const found = known.map((i) => [timeOf(data.images[i]), scoreOf(i, state.metric), i]).sort((a, b) => a[0] - b[0]);
      const ordered = [...known].sort((a, b) => gain(scoreOf(a, state.metric) - scoreOf(b, state.metric), state.metric));
      const mean = (part) => part.reduce((sum, i) => sum + scoreOf(i, state.metric), 0) / part.length;
      const worst = ordered.slice(0, Math.ceil(0.05 * ordered.length));
      told.textContent = known.length ? `${count(known.length)} frames: mean ${number(mean(known))}, worst 5% `
        + `${number(mean(worst))}, the worst at ${timeOf(data.images[ordered[0]])} s.` : "No frame has a score.";
      plot.words.y = data.metrics[state.metric].name;
      plot.prepare(padded(found.map(([time]) => time), 0.01), padded(found.map(([, score]) => score), 0.1));
      plot.line(found, "curve");
      plot.points(found, new Set(state.shown));
    };
    addPanel(nameOf(video), told, [plot.node], draw, true);
  }
}

const videoOf = (i) => data.images[i].slice(0, data.images[i].lastIndexOf(FRAME));
const timeOf = (path) => Number(path.slice(path.lastIndexOf(FRAME) + FRAME.length));

/** Draw what the present state shows. */
function drawPanels() {
  drawFigures();
  for (const draw of drawn) draw();
}

addHistogram();
if (data.against) {
  addAgainst();
  addDifferences();
}
if (data.opinions) addOpinions();
addVideos();
addRanking();
onChange(drawPanels);
new ResizeObserver(() => requestAnimationFrame(drawPanels)).observe(panels);
