// The second tab: the original, the plain reconstruction and that of the changed features, side by side.

watch("value", () => {
  const { pictures, edits, options } = props.value;
  element.querySelector(".edited").hidden = false;
  pictures.forEach(({ name, uri, psnr }, i) => {
    const figure = element.querySelectorAll("figure")[i];
    const caption = name + (psnr === null ? "" : " · " + psnr.toFixed(1) + " dB");
    figure.querySelector("img").src = uri;
    figure.querySelector("img").alt = caption;
    figure.querySelector("figcaption").textContent = caption;
  });
  const settings = Object.entries(options).map(([option, value]) => " --" + option + " " + value);
  const changed = edits.includes("--edit");
  element.querySelector("pre").textContent = changed ? "invert edit photo.jpg " + edits + settings.join("") : "";
});
