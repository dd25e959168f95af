// Plots: axes and lines as SVG over points on a canvas, so that ten thousand points stay quick.

const MARGIN = { left: 48, right: 12, top: 10, bottom: 34 };

/** Round numbers within an interval, about as many as asked for. */
function ticks(low, high, wanted = 5) {
  const span = high - low || 1;
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** An interval with some room at both ends. */
function padded(values, share = 0.04) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (!(low <= high)) return [0, 1];
  const room = (high - low) * share || Math.abs(low) * 0.05 || 0.5;
  return [low - room, high + room];
}

/** From values to pixels, along one side of a plot. */
function scale([low, high], [start, end]) {
  const to = (value) => start + ((value - low) / (high - low)) * (end - start);
  to.invert = (place) => low + ((place - start) / (end - start)) * (high - low);
  return to;
}

/** A plot with axes; `place` gives its scales once it is in the page. */
class Plot {
  /**
   * @param {{label: string, x: string, y: string, height?: number}} words What is told of it to those who cannot see it.
   */
  constructor({ label, x = "", y = "", height = 240 }) {
    this.words = { label, x, y };
    this.height = height;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.drawing = svg("svg", { role: "img", "aria-label": label });
    this.node = el("div", { class: "plot" }, this.canvas, this.drawing);
    this.node.style.height = `${height}px`;
  }

  /** Fit the plot to its width, empty it and draw axes. */
  prepare(xRange, yRange) {
    this.width = Math.max(220, this.node.clientWidth);
    const { left, right, top, bottom } = MARGIN;
    this.x = scale(xRange, [left, this.width - right]);
    this.y = scale(yRange, [this.height - bottom, top]);
    const density = window.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [this.width * density, this.height * density];
    this.pen = this.canvas.getContext("2d");
    this.pen.scale(density, density);
    this.drawing.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.drawing.replaceChildren();
    this.axis(xRange, ticks(...xRange, this.width / 90), true);
    this.axis(yRange, ticks(...yRange, this.height / 55), false);
  }

  axis(range, { values, digits }, horizontal) {
    const { left, right, top, bottom } = MARGIN;
    const base = this.height - bottom;
    for (const value of values) {
      const place = horizontal ? this.x(value) : this.y(value);
      const line = horizontal
        ? { x1: place, x2: place, y1: base, y2: base + 4, class: "tick" }
        : { x1: left, x2: this.width - right, y1: place, y2: place, class: "grid" };
      const text = horizontal
        ? { x: place, y: base + 16, "text-anchor": "middle" }
        : { x: left - 7, y: place + 4, "text-anchor": "end" };
      this.drawing.append(svg("line", line), svg("text", text, value.toFixed(digits).replace("-", "\u2212")));
    }
    const words = horizontal ? this.words.x : this.words.y;
    const at = horizontal
      ? { x: (left + this.width - right) / 2, y: this.height - 3, "text-anchor": "middle", class: "axis" }
      : { x: 0, y: 0, "text-anchor": "middle", class: "axis", transform: `translate(11 ${(top + base) / 2}) rotate(-90)` };
    this.drawing.append(svg("text", at, words));
    if (horizontal) this.drawing.append(svg("line", { x1: left, x2: this.width - right, y1: base, y2: base, class: "base" }));
  }

  /** Draw a line through points [x, y]. */
  line(points, name) {
    const path = points.map(([x, y], i) => `${i ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("");
    this.drawing.append(svg("path", { d: path, class: name }));
  }

  /** Draw a band of one width around a line. */
  band(points, half) {
    const up = points.map(([x, y]) => [x, y + half]);
    const down = points.map(([x, y]) => [x, y - half]).reverse();
    const path = [...up, ...down].map(([x, y], i) => `${i ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`);
    this.drawing.append(svg("path", { d: `${path.join("")}Z`, class: "band" }));
  }

  /** Draw a faint line from zero to each point. */
  stems(found, tone) {
    const style = getComputedStyle(document.documentElement);
    this.pen.globalAlpha = 0.35;
    this.pen.lineWidth = Math.max(1, Math.min(6, (0.5 * this.width) / found.length));
    for (const [x, y, row] of found) {
      this.pen.strokeStyle = style.getPropertyValue(tone(row));
      this.pen.beginPath();
      this.pen.moveTo(this.x(x), this.y(0));
      this.pen.lineTo(this.x(x), this.y(y));
      this.pen.stroke();
    }
  }

  /** Draw points [x, y, row], the chosen ones in colour; a click opens the nearest, and its name is shown under it. */
  points(found, chosen, tone = () => "--accent") {
    const style = getComputedStyle(document.documentElement);
    const radius = found.length > 2000 ? 1.6 : found.length > 300 ? 2.4 : 3.4;
    const circle = ([x, y], colour, alpha) => {
      this.pen.globalAlpha = alpha;
      this.pen.fillStyle = style.getPropertyValue(colour);
      this.pen.beginPath();
      this.pen.arc(this.x(x), this.y(y), radius, 0, 2 * Math.PI);
      this.pen.fill();
    };
    const opaque = found.length > 2000 ? 0.45 : 0.75;
    for (const point of found) if (!chosen.has(point[2])) circle(point, "--faint", 0.45);
    for (const point of found) if (chosen.has(point[2])) circle(point, tone(point[2]), opaque);
    this.found = found;
    if (!this.listens) this.listen();
  }

  listen() {
    this.listens = true;
    this.drawing.addEventListener("pointermove", (event) => this.hover(event));
    this.drawing.addEventListener("pointerleave", () => this.mark?.remove());
    this.drawing.addEventListener("click", (event) => {
      const near = this.nearest(event);
      if (near) openPicture(near[2]);
    });
  }

  nearest(event) {
    const box = this.drawing.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [best, distance] = [null, 18 ** 2];
    for (const point of this.found) {
      const d = (this.x(point[0]) - px) ** 2 + (this.y(point[1]) - py) ** 2;
      if (d < distance) [best, distance] = [point, d];
    }
    return best;
  }

  hover(event) {
    this.mark?.remove();
    const near = this.nearest(event);
    this.drawing.style.cursor = near ? "pointer" : "";
    if (!near) return;
    const [x, y] = [this.x(near[0]), this.y(near[1])];
    const right = x < this.width / 2;
    const text = svg("text", { x: x + (right ? 9 : -9), y: y - 8, "text-anchor": right ? "start" : "end" });
    text.textContent = nameOf(data.images[near[2]]);
    this.mark = svg("g", { class: "mark" }, svg("circle", { cx: x, cy: y, r: 5 }), text);
    this.drawing.append(this.mark);
  }
}

/** Distribution of the scores; dragging over it keeps the pictures in between. */
class Histogram extends Plot {
  draw() {
    const { sorted } = summary();
    if (!sorted.length) return this.prepare([0, 1], [0, 1]);
    const [low, high] = [sorted[0], sorted[sorted.length - 1]];
    const bins = Math.max(8, Math.min(48, Math.ceil(Math.sqrt(sorted.length) * 1.6)));
    const span = high - low || 1;
    const binOf = (value) => Math.min(bins - 1, Math.floor(((value - low) / span) * bins));
    const all = new Array(bins).fill(0);
    const shown = new Array(bins).fill(0);
    for (const value of sorted) all[binOf(value)] += 1;
    for (const i of state.shown) {
      const score = scoreOf(i, state.metric);
      if (score !== null) shown[binOf(score)] += 1;
    }
    this.words.x = data.metrics[state.metric].name;
    this.prepare(padded([low, low + span], 0.02), [0, Math.max(...all) * 1.08]);
    for (let bin = 0; bin < bins; bin += 1) {
      const [x0, x1] = [this.x(low + (bin / bins) * span), this.x(low + ((bin + 1) / bins) * span)];
      for (const [counts, name] of [[all, "bin"], [shown, "bin shown"]]) {
        const y = this.y(counts[bin]);
        const box = { x: x0 + 0.5, width: Math.max(1, x1 - x0 - 1), y, height: this.y(0) - y, class: name };
        this.drawing.append(svg("rect", box));
      }
    }
    this.drawBrush(state.range);
    if (!this.listens) this.listen();
  }

  drawBrush(range) {
    this.brush?.remove();
    if (!range) return;
    const [low, high] = this.x_range();
    const x0 = this.x(Math.max(low, range[0]));
    const x1 = this.x(Math.min(high, range[1]));
    const box = { x: x0, width: Math.max(1, x1 - x0), y: MARGIN.top, height: this.height - MARGIN.top - MARGIN.bottom };
    this.brush = svg("rect", { ...box, class: "brush" });
    this.drawing.append(this.brush);
  }

  x_range() {
    return [this.x.invert(MARGIN.left), this.x.invert(this.width - MARGIN.right)];
  }

  listen() {
    this.listens = true;
    const at = (event) => this.x.invert(event.clientX - this.drawing.getBoundingClientRect().left);
    let from = null;
    const between = (event) => [Math.min(from, at(event)), Math.max(from, at(event))];
    this.drawing.addEventListener("pointerdown", (event) => {
      from = at(event);
      this.drawing.setPointerCapture(event.pointerId);
    });
    this.drawing.addEventListener("pointermove", (event) => {
      if (from !== null) this.drawBrush(between(event));
    });
    this.drawing.addEventListener("pointerup", (event) => {
      const range = between(event);
      from = null;
      // A click without a drag takes the brush away.
      update({ range: this.x(range[1]) - this.x(range[0]) < 4 ? null : range });
    });
    this.drawing.addEventListener("pointercancel", () => (from = null));
  }
}
