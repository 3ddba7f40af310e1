// The same in Python and on the command line, for what is shown; and saving files.

// A value as Python and shells take it; only names of networks and weights stand here.
function quoted(value) {
  return typeof value === "number" ? String(value) : '"' + value + '"';
}

function pythonCode(pane, depth) {
  const options = { ...pane.options };
  if (depth.objective !== "pixel") options.objective = depth.objective;
  const keywords = Object.entries(options).map(([name, value]) => ", " + name + "=" + quoted(value));
  return (
    "import inverters\n\n" +
    'result = inverters.invert("photo.jpg", ' + quoted(depth.layer) + keywords.join("") + ")\n" +
    "picture = result[" + quoted(depth.layer) + "]  # 3×H×W, RGB in [0, 1]"
  );
}

function command(pane, depth) {
  const options = Object.entries(pane.options).map(([name, value]) => " --" + name + " " + value);
  const decoder = depth.objective === "pixel" ? "decoder" : depth.objective;
  if (pane.iterations) options.push(" --methods " + decoder + "+lbfgs --iterations " + pane.iterations);
  else if (depth.objective !== "pixel") options.push(" --objective " + depth.objective);
  return "invert predict photo.jpg --layers " + depth.layer + options.join("");
}

function save(name, uri) {
  const link = document.createElement("a");
  link.href = uri;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

// The picture that is shown, as a PNG with the same pixels.
function savePicture(pane, depth) {
  const image = depth.picture && loadedImage(depth.picture, redraw);
  if (!image) return;
  const canvas = Object.assign(document.createElement("canvas"), { width: pane.width, height: pane.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  save(depth.layer + ".png", canvas.toDataURL("image/png"));
}
