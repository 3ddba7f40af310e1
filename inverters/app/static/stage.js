// The large view: one canvas for each pane, which share the wipe, the zoom and the pointer.
// Positions in the image are fractions of its sides, so that they mean the same at every depth and in both panes.

const LARGEST_DIFFERENCE = 64; // levels; the end of the difference map's scale
const COLOURS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]; // magma
const loaded = new Map(); // images by their data URI
const differences = new WeakMap(); // canvases by the image that is compared

function loadedImage(uri, whenLoaded) {
  if (!loaded.has(uri)) {
    const image = new Image();
    image.onload = whenLoaded;
    image.src = uri;
    loaded.set(uri, image);
  }
  const image = loaded.get(uri);
  return image.complete && image.naturalWidth ? image : null;
}

function forgetImages(panes) {
  const used = new Set(panes.filter(Boolean).flatMap((pane) => [pane.original, ...pane.depths.map((d) => d.picture)]));
  for (const uri of loaded.keys()) if (!used.has(uri)) loaded.delete(uri);
}

function colour(fraction) {
  const place = Math.min(fraction, 1) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((value, i) => value + (place - low) * (COLOURS[low + 1][i] - value));
}

function pixels(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// The absolute difference, averaged over the three colours, as a picture in false colours.
function difference(original, image) {
  if (!differences.has(image)) {
    const first = pixels(original).data;
    const map = pixels(image);
    for (let i = 0; i < first.length; i += 4) {
      const sum = [0, 1, 2].reduce((total, c) => total + Math.abs(first[i + c] - map.data[i + c]), 0);
      map.data.set(colour(sum / 3 / LARGEST_DIFFERENCE), i);
    }
    const canvas = new OffscreenCanvas(map.width, map.height);
    canvas.getContext("2d").putImageData(map, 0, 0);
    differences.set(image, canvas);
  }
  return differences.get(image);
}

// Where the image lies on a canvas of so many pixels: its corner, and canvas pixels per image pixel.
function placement(canvas, pane, view) {
  const scale = Math.min(canvas.width / pane.width, canvas.height / pane.height) * view.zoom;
  return {
    scale,
    left: canvas.width / 2 - view.x * pane.width * scale,
    top: canvas.height / 2 - view.y * pane.height * scale,
  };
}

// Where the wipe stands on the canvas: a fraction of the part of the image that is seen.
function wipePosition(canvas, pane, view, wipe) {
  const { left, scale } = placement(canvas, pane, view);
  const from = Math.max(0, left);
  return from + wipe * (Math.min(canvas.width, left + pane.width * scale) - from);
}

function drawStage(canvas, pane, depth, state, redraw) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const original = loadedImage(pane.original, redraw);
  if (!original) return;
  const { left, top, scale } = placement(canvas, pane, state.view);
  const [width, height] = [pane.width * scale, pane.height * scale];
  const picture = depth && depth.picture && loadedImage(depth.picture, redraw);
  const edge = picture ? wipePosition(canvas, pane, state.view, state.wipe) : canvas.width;
  context.imageSmoothingEnabled = scale < 1; // enlarged pixels are shown as pixels
  context.imageSmoothingQuality = "high";
  drawPart(context, original, 0, edge, [left, top, width, height]);
  if (picture) {
    const right = state.right === "difference" ? difference(original, picture) : picture;
    drawPart(context, right, edge, canvas.width, [left, top, width, height]);
  }
  if (state.pointer && depth) drawField(context, pane, depth, state.pointer, { left, top, scale });
}

function drawPart(context, image, from, to, place) {
  context.save();
  context.beginPath();
  context.rect(from, 0, to - from, context.canvas.height);
  context.clip();
  context.drawImage(image, ...place);
  context.restore();
}

// The square that the feature under the pointer depends on, cut at the borders of the image: left, top, right, bottom.
function fieldBox(pane, depth, pointer) {
  const whole = [0, 0, pane.width, pane.height];
  if (!depth.stride || !depth.receptive_field) return whole;
  const cell = (place) => Math.floor(place / depth.stride) * depth.stride;
  const [x, y] = [cell(pointer.x * pane.width), cell(pointer.y * pane.height)];
  const end = depth.stride + depth.halo;
  return [
    Math.max(0, x - depth.halo),
    Math.max(0, y - depth.halo),
    Math.min(pane.width, x + end),
    Math.min(pane.height, y + end),
  ];
}

function drawField(context, pane, depth, pointer, { left, top, scale }) {
  const [x, y, right, bottom] = fieldBox(pane, depth, pointer).map((at, i) => at * scale + (i % 2 ? top : left));
  for (const [style, dash] of [["#000", []], ["#fff", [6, 6]]]) {
    context.strokeStyle = style;
    context.lineWidth = 2;
    context.setLineDash(dash);
    context.strokeRect(x + 1, y + 1, right - x - 2, bottom - y - 2);
  }
  context.setLineDash([]);
}

// What a feature sees, in words.
function fieldText(pane, depth, pointer) {
  const side = depth.receptive_field;
  const [left, top, right, bottom] = fieldBox(pane, depth, pointer || { x: 0, y: 0 });
  const whole = right - left >= pane.width && bottom - top >= pane.height;
  if (!side || (pointer && whole)) return "A feature here sees the whole image.";
  return "A feature here sees " + side + "×" + side + " pixels" + (pointer ? ": the square at the pointer." : ".");
}
