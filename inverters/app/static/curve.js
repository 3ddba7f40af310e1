// The curve over depth: PSNR of each pane, with a marker at the depth that is shown. Where there is a classifier, points
// are hollow from which it sees another class than in the original.

const CURVE = { left: 34, right: 290, top: 26, bottom: 160 };

function svg(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

function curveX(place) {
  return CURVE.left + place * (CURVE.right - CURVE.left);
}

// The fraction of the depth at a place of the page.
function curvePlace(element, clientX) {
  const box = element.getBoundingClientRect();
  const x = ((clientX - box.left) / box.width) * 300;
  return Math.min(1, Math.max(0, (x - CURVE.left) / (CURVE.right - CURVE.left)));
}

function drawCurve(element, panes, place) {
  const values = panes.flatMap((pane) => pane.depths.map((depth) => depth.psnr)).filter((value) => value !== null);
  element.replaceChildren(svg("text", { x: CURVE.left, y: 14, class: "title" }, "PSNR in dB, by depth"));
  if (panes.some((pane) => pane.label)) {
    element.append(
      svg("circle", { cx: 178, cy: 10, r: 2.5, class: "point hollow pane0" }),
      svg("text", { x: CURVE.right, y: 14, class: "tick", "text-anchor": "end" }, "seen as another class"),
    );
  }
  const low = Math.floor(Math.min(10, ...values) / 10) * 10;
  const high = Math.ceil(Math.max(40, ...values) / 10) * 10;
  const y = (value) => CURVE.bottom - ((value - low) / (high - low)) * (CURVE.bottom - CURVE.top);
  for (let tick = low; tick <= high; tick += 10) {
    element.append(
      svg("line", { x1: CURVE.left, x2: CURVE.right, y1: y(tick), y2: y(tick), class: "grid" }),
      svg("text", { x: CURVE.left - 6, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, String(tick)),
    );
  }
  const first = panes[0].depths;
  for (const [index, anchor] of [[0, "start"], [first.length - 1, "end"]]) {
    const x = anchor === "start" ? CURVE.left : CURVE.right;
    element.append(svg("text", { x, y: 178, class: "tick", "text-anchor": anchor }, first[index].layer));
  }
  element.append(svg("line", { x1: curveX(place), x2: curveX(place), y1: CURVE.top, y2: CURVE.bottom, class: "marker" }));
  panes.forEach((pane, number) => drawLine(element, pane, number, place, y));
  element.setAttribute("aria-label", "PSNR over depth: " + spoken(panes[0]));
}

function drawLine(element, pane, number, place, y) {
  const last = Math.max(1, pane.depths.length - 1);
  const shown = Math.round(place * (pane.depths.length - 1));
  const known = pane.depths.map((depth, i) => ({ ...depth, i })).filter((depth) => depth.psnr !== null);
  const points = known.map(({ psnr, i, agrees }) => [curveX(i / last), y(psnr), i, agrees]);
  const line = points.map(([px, py]) => px + "," + py).join(" ");
  element.append(svg("polyline", { points: line, class: "line pane" + number }));
  for (const [cx, cy, i, agrees] of points) {
    const kind = agrees === false ? "point hollow pane" : "point pane";
    element.append(svg("circle", { cx, cy, r: i === shown ? 5 : 2.5, class: kind + number }));
  }
}

function spoken(pane) {
  return pane.depths
    .filter((depth) => depth.psnr !== null)
    .map((depth) => depth.layer + " " + depth.psnr.toFixed(1) + " dB" + (depth.label ? ", " + depth.label : ""))
    .join(", ");
}
