// The state in the address: `#layer=relu4_2&right=difference`, so that a link shows what its sender saw. The photograph
// is not part of it. settings.js reads the rest of the address.

let asked = new URLSearchParams(location.hash.slice(1));

// Go to the layer of the address, once, and afterwards stay at the same depth.
function restorePlace() {
  if (!asked) return;
  const { depths } = state.panes[0];
  const last = Math.max(1, depths.length - 1);
  const index = depths.findIndex((depth) => depth.layer === asked.get("layer"));
  state.place = (index >= 0 ? index : Math.round(0.75 * (depths.length - 1))) / last;
  if (asked.get("right") === "difference") state.right = "difference";
  asked = null;
}

function remember() {
  const [pane] = state.panes;
  const values = { layer: pane.depths[Math.round(state.place * (pane.depths.length - 1))].layer };
  if (state.right === "difference") values.right = "difference";
  if (pane.network !== opened.network) values.network = pane.network;
  if (pane.objective !== opened.objective) values.objective = pane.objective;
  if (!pane.corrections) values.corrections = "off";
  history.replaceState(history.state, "", "#" + new URLSearchParams(values));
}
