// Slice viewer on a 2D canvas: the source's slices as JPEG, the core as PNG over them. No WebGL.
"use strict";
(() => {
  const root = document.getElementById("viewer");
  if (!root) return;
  const canvas = root.querySelector("canvas");
  const context = canvas.getContext("2d");
  const status = root.querySelector("#slice-words");
  const slider = root.querySelector("#slice");
  const problem = root.querySelector("#viewer-problem");
  const base = root.dataset.base;
  const AHEAD = 12;
  const AT_ONCE = 6;

  let stack = null;
  let at = 0;
  let view = "brain";
  let overlay = "outline";
  const images = new Map();
  let loading = 0;
  let direction = 1;
  let drawn = "";

  const imageAddress = (n) => `${base}/slices/${n}/image?window=${view}`;
  const coreAddress = (n) => `${base}/slices/${n}/core?overlay=${overlay}`;
  const hasCore = (n) => overlay !== "off" && stack.slices[n].core_mm2 > 0;

  function get(address) {
    let entry = images.get(address);
    if (entry) return entry;
    entry = { image: new Image(), state: "loading" };
    images.set(address, entry);
    loading += 1;
    entry.image.onload = () => { entry.state = "ready"; done(); };
    entry.image.onerror = () => { entry.state = "failed"; done(); };
    entry.image.src = address;
    return entry;
  }
  function done() { loading -= 1; draw(); ahead(); }

  function ahead() {
    for (let step = 1; step <= AHEAD && loading < AT_ONCE; step += 1) {
      for (const n of [at + step * direction, at - step * direction]) {
        if (n < 0 || n >= stack.count || loading >= AT_ONCE) continue;
        get(imageAddress(n));
        if (hasCore(n)) get(coreAddress(n));
      }
    }
    if (images.size > 1200) for (const key of [...images.keys()].slice(0, 300)) images.delete(key);
  }

  function draw() {
    const picture = get(imageAddress(at));
    const core = hasCore(at) ? get(coreAddress(at)) : null;
    if (picture.state === "loading" || (core && core.state === "loading")) return;
    const key = `${at} ${view} ${overlay} ${picture.state}`;
    if (key === drawn) return;
    drawn = key;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (picture.state === "ready") context.drawImage(picture.image, 0, 0, canvas.width, canvas.height);
    if (core && core.state === "ready") context.drawImage(core.image, 0, 0, canvas.width, canvas.height);
    problem.hidden = picture.state === "ready";
    problem.textContent = picture.state === "ready" ? "" : "This slice cannot be shown: its image is gone or damaged.";
    canvas.dataset.drawn = String(at);
  }

  function label() {
    const one = stack.slices[at];
    const [width, level] = stack.windows[view];
    const parts = [`Slice ${at + 1} of ${stack.count}`];
    if (one.instance !== null) parts.push(`instance ${one.instance}`);
    if (one.place) parts.push(one.place);
    if (one.core_mm2 > 0) parts.push(`core ${(one.core_mm2 / 100).toFixed(1)} cm²`);
    status.textContent = parts.join(" · ");
    root.querySelector("#window-words").textContent = `W ${width} L ${level}`;
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", parts.join(", "));
    canvas.setAttribute("aria-label", `${stack.source}, ${parts.join(", ")}, window ${view}, core ${overlay}`);
  }

  function show(n) {
    const next = Math.min(stack.count - 1, Math.max(0, n));
    if (next !== at) direction = next > at ? 1 : -1;
    at = next;
    label();
    draw();
    ahead();
  }
  function press(group, value) {
    for (const button of root.querySelectorAll(`[data-${group}]`)) {
      button.setAttribute("aria-pressed", String(button.dataset[group] === value));
    }
  }
  function setWindow(name) { view = name; press("window", name); show(at); }
  function setOverlay(name) { overlay = name; press("overlay", name); show(at); }
  const nextOverlay = () => setOverlay({ outline: "fill", fill: "off", off: "outline" }[overlay]);

  const KEYS = {
    ArrowUp: () => show(at + 1), ArrowDown: () => show(at - 1),
    ArrowRight: () => show(at + 1), ArrowLeft: () => show(at - 1),
    PageUp: () => show(at + 10), PageDown: () => show(at - 10),
    Home: () => show(stack.most_core), End: () => show(stack.count - 1),
    1: () => setWindow("brain"), 2: () => setWindow("stroke"), 3: () => setWindow("vessels"),
    o: nextOverlay, O: nextOverlay,
  };

  function ready() {
    canvas.width = stack.columns;
    canvas.height = Math.round(stack.rows * stack.spacing_mm[0] / stack.spacing_mm[1]);
    for (const side of ["left", "right", "top", "bottom"]) root.querySelector(`[data-side=${side}]`).textContent = stack.sides[side];
    slider.max = String(stack.count - 1);
    root.querySelector("#source-words").textContent = stack.source === "source images" ? "" : "Aligned head, not the source images";
    for (const button of root.querySelectorAll("[data-overlay]")) button.disabled = !stack.has_core;
    const stage = root.querySelector(".stage");
    stage.addEventListener("keydown", (event) => {
      const act = KEYS[event.key];
      if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      act();
    });
    let turned = 0;
    stage.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return;
      event.preventDefault();
      turned += event.deltaMode === 0 ? event.deltaY / 50 : event.deltaY;
      const steps = Math.trunc(turned);
      turned -= steps;
      if (steps) show(at - Math.max(-10, Math.min(10, steps)));
    }, { passive: false });
    let touch = null;
    stage.addEventListener("pointerdown", (event) => { touch = { y: event.clientY, at }; stage.focus({ preventScroll: true }); });
    stage.addEventListener("pointermove", (event) => {
      if (touch && event.buttons) show(touch.at + Math.round((touch.y - event.clientY) / 6));
    });
    stage.addEventListener("pointerup", () => { touch = null; });
    stage.addEventListener("pointercancel", () => { touch = null; });
    slider.addEventListener("input", () => show(Number(slider.value)));
    slider.addEventListener("keydown", (event) => {
      if (event.key === "Home") { event.preventDefault(); show(stack.most_core); }
    });
    for (const button of root.querySelectorAll("[data-window]")) button.addEventListener("click", () => setWindow(button.dataset.window));
    for (const button of root.querySelectorAll("[data-overlay]")) button.addEventListener("click", () => setOverlay(button.dataset.overlay));
    root.querySelector("#most-core").addEventListener("click", () => show(stack.most_core));
    root.classList.add("ready");
    at = stack.most_core;
    show(at);
  }

  fetch(`${base}/slices`, { headers: { accept: "application/json" } })
    .then((answer) => (answer.ok ? answer.json() : answer.json().then((one) => { throw new Error(one.title); })))
    .then((found) => {
      if (!found.count) throw new Error(found.problem);
      stack = found;
      ready();
    })
    .catch((error) => {
      problem.hidden = false;
      problem.textContent = error.message || "The slices cannot be loaded.";
      root.classList.add("no-images");
    });
})();
