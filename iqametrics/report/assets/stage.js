// One or two pictures under one zoom and pan: side by side, swiped, switched in place, or as their difference.

const MODES = {
  single: "Picture",
  side: "Side by side",
  swipe: "Swipe",
  blink: "Switch",
  difference: "Difference",
};
const BLINK_MS = 700;
const ZOOM_STEP = 1.25;
const PIXELS_FROM = 3; // from this zoom on, pixels are shown as squares

/** A place for two pictures. The second is stretched to the size of the first, so unlike sizes lie on each other. */
class Stage {
  constructor() {
    this.panes = [0, 1].map((index) => this.pane(index));
    this.handle = el("div", {
      class: "handle", role: "slider", tabindex: 0, "aria-label": "Swipe", "aria-valuemin": 0, "aria-valuemax": 100,
    });
    this.node = el("div", { class: "stage", tabindex: 0, "aria-label": "Picture; plus and minus zoom, Shift and arrows move" },
      ...this.panes.map((pane) => pane.node), this.handle);
    this.view = { scale: 1, x: 0, y: 0 };
    this.size = [1, 1];
    this.mode = "single";
    this.onZoom = () => {};
    this.listen();
    new ResizeObserver(() => this.fit()).observe(this.node);
  }

  pane(index) {
    const image = el("img", { alt: "", draggable: "false" });
    const map = el("img", { alt: "", class: "map", draggable: "false", hidden: true });
    const sheet = el("div", { class: "sheet" }, image, map);
    const label = el("span", { class: "pane-label" });
    const missing = el("p", { class: "missing", hidden: true });
    image.addEventListener("load", () => this.loaded(index));
    image.addEventListener("error", () => this.failed(index));
    return { image, map, sheet, label, missing, node: el("div", { class: "pane" }, sheet, label, missing) };
  }

  /** Show pictures; null as the second for one alone. */
  show([first, second]) {
    this.size = [0, 0];
    this.both = Boolean(second);
    [first, second].forEach((shown, index) => {
      const pane = this.panes[index];
      pane.missing.hidden = true;
      pane.sheet.replaceChildren(pane.image, pane.map);
      pane.called = pane.label.textContent = shown?.label ?? "";
      pane.image.alt = shown ? `${shown.label}: ${nameOf(shown.path)}` : "";
      this.setMap(null, 0, index);
      if (!shown) pane.image.removeAttribute("src");
      else if (isFrame(shown.path)) this.showFrame(pane, shown, index);
      else if (shown.address === null) this.failed(index, "This picture came on stdin; no file is known.");
      else pane.image.src = shown.address;
    });
    this.setMode(this.mode);
  }

  /** Show a frame of a video by the browser's own player, which seeks to the time in the address. */
  showFrame(pane, shown, index) {
    const film = el("video", { controls: true, muted: true, preload: "auto", src: shown.address });
    film.addEventListener("loadedmetadata", () => this.sized(index, film.videoWidth, film.videoHeight));
    film.addEventListener("error", () => this.failed(index));
    pane.sheet.replaceChildren(film);
  }

  loaded(index) {
    const { image } = this.panes[index];
    this.sized(index, image.naturalWidth, image.naturalHeight);
  }

  sized(index, width, height) {
    const pane = this.panes[index];
    pane.label.textContent = `${pane.called} ${width} \u00D7 ${height}`;
    if (index === 0 || !this.size[0]) {
      this.size = [width, height];
      this.fit();
    }
    this.onZoom();
  }

  failed(index, text = "") {
    const { missing, image } = this.panes[index];
    if (!text && !image.getAttribute("src") && !this.panes[index].sheet.querySelector("video")) return;
    missing.textContent = text || "The browser cannot show this file: it has moved, or its format (TIFF, HEIC, JPEG 2000, "
      + "\u2026) is not one for browsers. A report made with --embed holds copies.";
    missing.hidden = false;
  }

  /** Lay a map over a picture. */
  setMap(address, opacity, index = 0) {
    const { map } = this.panes[index];
    map.hidden = !address;
    if (address) map.src = address;
    else map.removeAttribute("src");
    map.style.opacity = opacity;
  }

  setMode(mode) {
    this.mode = this.both ? mode : "single";
    this.node.dataset.mode = this.mode;
    // What is hidden loses the focus, and with it the keys.
    if (this.mode !== "swipe" && document.activeElement === this.handle) this.node.focus({ preventScroll: true });
    this.handle.hidden = this.mode !== "swipe";
    clearInterval(this.timer);
    this.second(this.mode !== "single");
    if (this.mode === "blink") {
      this.second(false);
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (!calm) this.timer = setInterval(() => this.flip(), BLINK_MS);
    }
    this.setSwipe(this.swipe ?? 50);
    this.fit();
  }

  second(visible) {
    this.panes[1].node.classList.toggle("away", !visible);
  }

  /** Switch between the two pictures. */
  flip() {
    this.second(this.panes[1].node.classList.contains("away"));
  }

  setSwipe(percent) {
    this.swipe = Math.max(0, Math.min(100, percent));
    this.handle.style.left = `${this.swipe}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(this.swipe));
    this.panes[1].node.style.clipPath = this.mode === "swipe" ? `inset(0 0 0 ${this.swipe}%)` : "";
  }

  setGain(factor) {
    this.node.style.setProperty("--gain", factor);
  }

  /** Show the whole picture. */
  fit() {
    if (!this.size[0]) return;
    const { clientWidth, clientHeight } = this.panes[0].node;
    const scale = Math.min(clientWidth / this.size[0], clientHeight / this.size[1]);
    this.fitted = scale;
    this.set({ scale: Math.min(scale, 4), x: 0, y: 0 });
  }

  /** Set zoom, and the place of the middle of the picture from the middle of the pane. */
  set({ scale, x, y }) {
    this.view = { scale: Math.max(0.02, Math.min(40, scale)), x, y };
    for (const { sheet } of this.panes) {
      sheet.style.width = `${this.size[0]}px`;
      sheet.style.height = `${this.size[1]}px`;
      sheet.style.transform = `translate(-50%, -50%) translate(${x}px, ${y}px) scale(${this.view.scale})`;
    }
    this.node.classList.toggle("pixels", this.view.scale >= PIXELS_FROM);
    this.onZoom();
  }

  /** Zoom by a factor around a point of a pane, given from its middle. */
  zoom(factor, [px, py] = [0, 0]) {
    const { scale, x, y } = this.view;
    const next = Math.max(0.02, Math.min(40, scale * factor));
    const ratio = next / scale;
    this.set({ scale: next, x: px - (px - x) * ratio, y: py - (py - y) * ratio });
  }

  move(dx, dy) {
    this.set({ ...this.view, x: this.view.x + dx, y: this.view.y + dy });
  }

  /** A point from the middle of the pane that it is in. */
  fromMiddle({ clientX, clientY }) {
    const [first, second] = this.panes.map((pane) => pane.node.getBoundingClientRect());
    const box = this.mode === "side" && clientX >= second.left ? second : first;
    return [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
  }

  listen() {
    this.node.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.0016), this.fromMiddle(event));
    }, { passive: false });
    this.drag(this.node, (before, after) => this.follow(before, after), this.handle);
    this.drag(this.handle, (before, [[x]]) => {
      const box = this.node.getBoundingClientRect();
      this.setSwipe(((x - box.left) / box.width) * 100);
    });
    this.handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.setSwipe(this.swipe + step);
    });
    this.node.addEventListener("dblclick", (event) => {
      if (this.view.scale > this.fitted * 1.01) this.fit();
      else this.zoom(1 / this.view.scale, this.fromMiddle(event));
    });
  }

  /** Tell where the mouse or the fingers were and are, while they are down. */
  drag(node, moved, except = null) {
    const held = new Map();
    node.addEventListener("pointerdown", (event) => {
      if (event.target === except || event.target.tagName === "VIDEO") return;
      held.set(event.pointerId, [event.clientX, event.clientY]);
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      if (!held.has(event.pointerId)) return;
      const before = [...held.values()];
      held.set(event.pointerId, [event.clientX, event.clientY]);
      moved(before, [...held.values()]);
    });
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, (event) => held.delete(event.pointerId));
  }

  /** Move with one finger, and zoom with two. */
  follow(before, after) {
    const middle = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
    const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    const [from, to] = [middle(before), middle(after)];
    this.move(to[0] - from[0], to[1] - from[1]);
    if (before.length === 2 && apart(before) > 0) {
      this.zoom(apart(after) / apart(before), this.fromMiddle({ clientX: to[0], clientY: to[1] }));
    }
  }
}
