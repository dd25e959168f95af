// What every other script uses: the data, elements, numbers as text, and what is known of a picture by its number.

const data = JSON.parse(document.getElementById("data").textContent);
const FRAME = "#t=";

/** Find an element by its id. */
const byId = (id) => document.getElementById(id);

/** Make an element. Text is set as text, so a name full of HTML stays a name. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Make an element of a drawing. */
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Write a score; "" where there is none. */
const number = (value, digits = 4) => (value === null || value === undefined ? "" : value.toFixed(digits));

/** Write a difference with its sign, by the typographic minus. */
const signed = (value, digits = 4) =>
  value === null ? "" : (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);

const count = (value) => value.toLocaleString("en");
const pictures = data.images.length;
const rows = Array.from({ length: pictures }, (_, i) => i);

const slash = (path) => Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"));
const nameOf = (path) => path.slice(slash(path) + 1);
const folderOf = (path) => path.slice(0, Math.max(0, slash(path)));

/** Quote a path for an address, as Python's urllib.parse.quote does. */
function quoted(path) {
  const quote = (text) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
  const mark = path.lastIndexOf(FRAME);
  const file = mark < 0 ? path : path.slice(0, mark);
  return file.split("/").map(quote).join("/") + (mark < 0 ? "" : path.slice(mark));
}

/** Address of a picture; null for one that came on stdin. A copy within the page comes first. */
function addressOf(path) {
  if (path === null || path === undefined) return null;
  if (Object.hasOwn(data.copies, path)) return data.copies[path];
  return Object.hasOwn(data.addresses, path) ? data.addresses[path] : data.start + quoted(path);
}

const isFrame = (path) => path.includes(FRAME);

const scoreOf = (i, metric) => data.scores[metric][i];
const errorOf = (i) => data.errors[i] ?? null;
const failOf = (i) => data.fails[i] ?? null;
const referenceOf = (i) => (data.references ? data.references[i] : null);
const mosOf = (i) => (data.mos ? data.mos[i] : null);
const residualOf = (i, metric) => data.opinions?.[metric]?.residuals?.[i] ?? null;
const otherOf = (i, metric) => (data.against ? data.against.scores[metric][i] : null);

/** How much better a score is, whatever the direction of the metric. */
const gain = (value, metric) => (data.metrics[metric].higher ? value : -value);

/** Score minus the other run's; null where one of them is missing. */
function differenceOf(i, metric) {
  const [now, then] = [scoreOf(i, metric), otherOf(i, metric)];
  return now === null || then === null ? null : now - then;
}

/** The value below which a share of sorted values lies, between neighbours. */
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

/** Sorted values that are there. */
const sortedValues = (values) => values.filter((value) => value !== null).sort((a, b) => a - b);

/** Numbers of the rows whose value lies beyond 1.5 interquartile ranges from the quartiles (Tukey's rule). */
function outliers(values) {
  const sorted = sortedValues(values);
  if (sorted.length < 8) return new Set();
  const [low, high] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
  const reach = 1.5 * (high - low);
  return new Set(
    rows.filter((i) => values[i] !== null && (values[i] < low - reach || values[i] > high + reach)),
  );
}

/** Copy a text; where the page may not, as from the disk in some browsers, by a hidden field. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "off-screen" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** A button that copies a text and says so. */
function copyButton(label, text) {
  const button = el("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    await copy(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1200);
  });
  return button;
}
