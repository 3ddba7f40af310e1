// The viewer: what is shown, and how it answers to the slider, the pointer and the keys. gr.HTML calls this with
// `element`, `props` and `watch`; the functions of the other files stand above.

const find = (selector) => element.querySelector(selector);
const stages = [...element.querySelectorAll(".stage")];
const slider = find(".depth input");
const state = {
  panes: [null, null],
  place: 0, // in the depth: 0 for the first layer, 1 for the last
  right: "picture", // what stands right of the wipe, or "difference"
  wipe: 0.5,
  view: { zoom: 1, x: 0.5, y: 0.5 }, // the point of the image in the middle of the stage
  pointer: null,
};

function shownPanes() {
  return state.panes.filter(Boolean);
}

// The depth of a pane at the slider; while pictures are computed, the deepest that is there.
function shownDepth(pane) {
  const wanted = Math.round(state.place * (pane.depths.length - 1));
  const ready = pane.depths.slice(0, wanted + 1).filter((depth) => depth.picture);
  return pane.depths[wanted].picture || !ready.length || pane.iterations ? pane.depths[wanted] : ready[ready.length - 1];
}

function scores(depth) {
  const known = [
    [depth.psnr, (value) => value.toFixed(1) + " dB"],
    [depth.ssim, (value) => "SSIM " + value.toFixed(3)],
    [depth.feature_error, (value) => "feature error " + value.toFixed(3) + (depth.verdict && ", " + depth.verdict)],
    [depth.label, (value) => "seen as " + value],
  ];
  return known.filter(([value]) => value !== null).map(([value, text]) => text(value)).join(" · ");
}

function describe(pane, depth) {
  const names = shownPanes().map((some) => some.network);
  const network = new Set(names).size > 1 ? pane.network + " " : "";
  const kind = pane.iterations ? ", optimised" : depth.objective === "pixel" ? "" : ", " + depth.objective;
  const result = depth.picture ? scores(depth) : pane.note ? "being computed" : "not computed";
  return network + depth.layer + kind + " · " + result;
}

// --- drawing ---

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function draw() {
  stages.forEach((stage, number) => {
    const pane = state.panes[number];
    if (number === 1) stage.hidden = !pane;
    if (pane) drawPane(stage, pane);
  });
  if (!shownPanes().length) return;
  const [pane] = shownPanes();
  const depth = shownDepth(pane);
  drawCurve(find(".curve"), shownPanes(), state.place);
  find(".field").textContent = fieldText(pane, depth, state.pointer);
  find(".note").textContent = shownPanes().map((some) => some.note).filter(Boolean).join(" ");
  find("output").textContent = depth.layer;
  slider.setAttribute("aria-valuetext", describe(pane, depth));
  drawThumbnails(pane);
  drawButtons(pane, depth);
  find(".viewer").classList.toggle("difference", state.right === "difference");
  for (const button of element.querySelectorAll("[data-right]")) {
    button.setAttribute("aria-pressed", String(button.dataset.right === state.right));
  }
  find('[data-zoom="0"]').textContent = Number(state.view.zoom.toFixed(1)) + "×";
}

function drawPane(stage, pane) {
  const canvas = stage.querySelector("canvas");
  const box = stage.querySelector(".frame").getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const depth = shownDepth(pane);
  drawStage(canvas, pane, depth, state, redraw);
  const wipe = stage.querySelector(".wipe");
  wipe.hidden = !depth.picture;
  wipe.style.left = wipePosition(canvas, pane, state.view, state.wipe) / ratio + "px";
  wipe.setAttribute("aria-valuenow", String(Math.round(state.wipe * 100)));
  const right = state.right === "difference" ? "difference" : pane.iterations ? "optimised" : depth.layer;
  stage.querySelector(".chip.left").textContent = "original" + (pane.label ? ": " + pane.label : "");
  stage.querySelector(".chip.right").textContent = depth.picture ? right : "";
  stage.querySelector("figcaption").textContent = describe(pane, depth);
  canvas.setAttribute("aria-label", "Original and " + right + ": " + describe(pane, depth));
}

function drawButtons(pane, depth) {
  const second = state.panes[1];
  const optimised = Boolean(second && second.iterations);
  const running = optimised && second.note !== "";
  find('[data-ask="optimise"]').hidden = running;
  find('[data-ask="optimise"]').disabled = !depth.picture;
  find('[data-ask="stop"]').hidden = !running;
  find('[data-ask="close"]').hidden = !optimised || running;
  const shell = optimised && shownDepth(second).picture ? command(second, shownDepth(second)) : command(pane, depth);
  [pythonCode(pane, depth), shell].forEach((text, i) => {
    element.querySelectorAll(".code pre")[i].textContent = text;
  });
}

function drawThumbnails(pane) {
  const row = find(".thumbnails");
  while (row.children.length > pane.depths.length) row.lastChild.remove();
  while (row.children.length < pane.depths.length) row.append(document.createElement("img"));
  const shown = pane.depths.indexOf(shownDepth(pane));
  pane.depths.forEach((depth, i) => {
    const image = row.children[i];
    if (image.dataset.uri !== depth.picture) {
      image.dataset.uri = depth.picture;
      image.src = depth.picture || pane.original;
    }
    image.alt = "";
    image.className = (depth.picture ? "" : "missing") + (i === shown ? " shown" : "");
  });
  row.parentElement.style.setProperty("--count", pane.depths.length);
}

// --- what changes the state ---

function show(number, pane) {
  state.panes[number] = pane && pane.depths ? pane : null;
  if (number === 0) restorePlace();
  const count = Math.max(1, ...shownPanes().map((some) => some.depths.length));
  slider.max = String(count - 1);
  slider.value = String(Math.round(state.place * (count - 1)));
  forgetImages(state.panes);
  for (const some of shownPanes()) {
    for (const depth of some.depths) if (depth.picture) loadedImage(depth.picture, redraw);
  }
  redraw();
}

function moveTo(index) {
  const last = Math.max(1, Number(slider.max));
  slider.value = String(Math.min(last, Math.max(0, index)));
  state.place = Number(slider.value) / last;
  remember();
  redraw();
}

function zoomBy(factor, at) {
  const view = state.view;
  const zoom = factor ? Math.min(64, Math.max(1, view.zoom * factor)) : 1;
  const point = at || { x: view.x, y: view.y };
  const kept = view.zoom / zoom; // the point under the pointer stays where it is
  state.view = centred({ zoom, x: point.x - (point.x - view.x) * kept, y: point.y - (point.y - view.y) * kept });
  redraw();
}

// The view without empty space that the image could fill.
function centred({ zoom, x, y }) {
  const margin = 0.5 / zoom;
  const inside = (value) => Math.min(1 - margin, Math.max(margin, value));
  return zoom === 1 ? { zoom, x: 0.5, y: 0.5 } : { zoom, x: inside(x), y: inside(y) };
}

function setWipe(value) {
  state.wipe = Math.min(1, Math.max(0, value));
  redraw();
}

// --- controls and keys ---

stages.forEach(followPointer);
slider.addEventListener("input", () => moveTo(Number(slider.value)));
find(".curve").addEventListener("click", (event) => {
  moveTo(Math.round(curvePlace(find(".curve"), event.clientX) * Number(slider.max)));
});
find(".thumbnails").addEventListener("click", (event) => {
  const index = [...find(".thumbnails").children].indexOf(event.target);
  if (index >= 0) moveTo(Math.round((index / Math.max(1, state.panes[0].depths.length - 1)) * Number(slider.max)));
});
element.addEventListener("click", (event) => {
  const { right, zoom, ask, save: file, copy } = event.target.dataset || {};
  const [pane] = state.panes;
  if (right) {
    state.right = right;
    remember();
    redraw();
  }
  if (zoom) zoomBy(Number(zoom));
  if (ask === "optimise") {
    optimising = true;
    request("optimise", shownDepth(pane).layer);
  }
  if (ask === "stop") trigger("stop");
  if (ask === "close") window.inverters.forgetOptimisation();
  if (file === "picture") savePicture(pane, shownDepth(pane));
  else if (file) request("download", file);
  if (copy) navigator.clipboard.writeText(element.querySelectorAll(".code pre")[copy].textContent);
});

// Ask the server for something; page.py reads `window.inverters.asked` as the last input.
function request(event, what) {
  window.inverters.asked = what;
  trigger(event);
}

// Arrow keys move through the depth wherever they do nothing else.
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const active = document.activeElement;
  const free = !active || active === document.body || ["CANVAS", "BUTTON"].includes(active.tagName);
  if (!step || !free || event.altKey || event.ctrlKey || event.metaKey || !element.offsetParent) return;
  event.preventDefault();
  moveTo(Number(slider.value) + step);
});

new ResizeObserver(redraw).observe(find(".stages"));
let optimising = false; // whether an optimisation is wanted; steps of one that is not may still arrive
window.inverters = {
  asked: "",
  showSecond(pane) {
    if (!pane || !pane.iterations || optimising) show(1, pane);
  },
  forgetOptimisation() {
    optimising = false;
    if (state.panes[1] && state.panes[1].iterations) show(1, null);
  },
  save: (file) => save(file.name, file.uri),
};
const opened = props.value;
show(0, opened);
watch("value", () => {
  show(0, props.value);
  remember();
});
