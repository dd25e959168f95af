// Which pictures are shown, and in which order.

const state = {
  metric: 0,
  query: "",
  folder: "", // with the slash at its end
  status: "all",
  range: null, // [low, high] of the score
  sort: { key: "score", reverse: false }, // not reversed: the worst first
  shown: [], // numbers of the pictures, in order
};
const listeners = [];
let ofMetric = null;

/** Call a function whenever the pictures that are shown, or the metric, change. */
const onChange = (listener) => listeners.push(listener);

/** Outliers and ranks by the present metric, computed once for each metric. */
function summary() {
  if (ofMetric?.metric === state.metric) return ofMetric;
  const metric = state.metric;
  const values = data.scores[metric];
  const order = rows.filter((i) => values[i] !== null).sort((a, b) => gain(values[a] - values[b], metric));
  const ranks = new Map(order.map((i, place) => [i, place + 1]));
  const sorted = sortedValues(values);
  ofMetric = { metric, order, ranks, sorted, outliers: outliers(values) };
  return ofMetric;
}

const ORDERS = {
  score: (i) => signedGain(scoreOf(i, state.metric)),
  change: (i) => signedGain(differenceOf(i, state.metric)),
  mos: (i) => mosOf(i),
  residual: (i) => {
    const residual = residualOf(i, state.metric);
    return residual === null ? null : -Math.abs(residual);
  },
  name: null,
};

const signedGain = (value) => (value === null ? null : gain(value, state.metric));

/** Value that rows are sorted by, least first; for columns of other metrics too. */
function orderKey(key) {
  const other = /^metric(\d+)$/.exec(key);
  if (!other) return ORDERS[key];
  const metric = Number(other[1]);
  return (i) => (scoreOf(i, metric) === null ? null : gain(scoreOf(i, metric), metric));
}

const STATUSES = {
  all: ["all pictures", () => true],
  scored: ["scored", (i) => scoreOf(i, state.metric) !== null],
  errors: ["with an error", (i) => errorOf(i) !== null],
  fails: ["that fail the gate", (i) => failOf(i) !== null],
  outliers: ["outliers", (i) => summary().outliers.has(i)],
  worse: ["that got worse", (i) => (signedGain(differenceOf(i, state.metric)) ?? 0) < -1e-5],
  better: ["that got better", (i) => (signedGain(differenceOf(i, state.metric)) ?? 0) > 1e-5],
};

/** Statuses that this run has. */
function knownStatuses() {
  const has = { errors: Object.keys(data.errors).length, fails: Object.keys(data.fails).length };
  has.worse = has.better = Boolean(data.against);
  return Object.keys(STATUSES).filter((key) => has[key] ?? true);
}

function matches(i, words) {
  const path = data.images[i];
  if (state.folder && !path.startsWith(state.folder)) return false;
  if (!STATUSES[state.status][1](i)) return false;
  if (state.range) {
    const score = scoreOf(i, state.metric);
    if (score === null || score < state.range[0] || score > state.range[1]) return false;
  }
  const text = words.length ? path.toLowerCase() : "";
  return words.every((word) => text.includes(word));
}

const names = new Intl.Collator("en", { numeric: true });

function compareRows(key, reverse) {
  const turn = reverse ? -1 : 1;
  if (key === "name") return (a, b) => turn * names.compare(data.images[a], data.images[b]);
  const value = orderKey(key);
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    // What has no value comes last, in either direction.
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return turn * (x - y) || a - b;
  };
}

/** Change the state, and show what follows. */
function update(changes = {}) {
  if ("metric" in changes && changes.metric !== state.metric) changes = { range: null, ...changes };
  Object.assign(state, changes);
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  state.shown = rows.filter((i) => matches(i, words)).sort(compareRows(state.sort.key, state.sort.reverse));
  for (const listener of listeners) listener(changes);
}
