// The state in the address: `#layer=relu4_2&right=difference`, so that a link shows what its sender saw.

let asked = new URLSearchParams(location.hash.slice(1));

// Go to the layer of the address, once, and afterwards stay at the same depth.
function restorePlace() {
  const { depths } = state.panes[0];
  const layer = asked ? asked.get("layer") : null;
  if (asked && asked.get("right") === "difference") state.right = "difference";
  const index = depths.findIndex((depth) => depth.layer === layer);
  if (index >= 0) state.place = index / Math.max(1, depths.length - 1);
  else if (asked) state.place = Math.round(0.75 * (depths.length - 1)) / Math.max(1, depths.length - 1);
  asked = null;
}

function remember() {
  const [pane] = state.panes;
  if (!pane) return;
  const values = { layer: pane.depths[Math.round(state.place * (pane.depths.length - 1))].layer };
  if (state.right === "difference") values.right = "difference";
  history.replaceState(history.state, "", "#" + new URLSearchParams(values));
}
