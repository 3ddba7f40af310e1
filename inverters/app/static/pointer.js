// The pointer on a stage: it wipes, or moves what is zoomed; the wheel and two fingers zoom.

// The place of an event in the image, as fractions, and on the stage.
function locate(event, stage, pane) {
  const canvas = stage.querySelector("canvas");
  const box = canvas.getBoundingClientRect();
  const ratio = canvas.width / box.width;
  const { left, top, scale } = placement(canvas, pane, state.view);
  const [x, y] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  const from = Math.max(0, left);
  const to = Math.min(canvas.width, left + pane.width * scale);
  return { x: (x - left) / scale / pane.width, y: (y - top) / scale / pane.height, wipe: (x - from) / (to - from) };
}

function followPointer(stage, number) {
  const canvas = stage.querySelector("canvas");
  const wipe = stage.querySelector(".wipe");
  const pointers = new Map(); // by their id: the last event, for dragging and pinching
  const at = (event) => locate(event, stage, state.panes[number]);

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (state.view.zoom === 1 && pointers.size === 1) setWipe(at(event).wipe);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.panes[number]) return;
    const before = pointers.get(event.pointerId);
    if (before) pointers.set(event.pointerId, event);
    if (before && pointers.size === 2) {
      const [other] = [...pointers.values()].filter((some) => some.pointerId !== event.pointerId);
      const apart = (some) => Math.hypot(some.clientX - other.clientX, some.clientY - other.clientY);
      zoomBy(apart(event) / Math.max(1, apart(before)), at(event));
    } else if (before && state.view.zoom > 1) {
      const [from, to] = [at(before), at(event)];
      state.view = centred({ ...state.view, x: state.view.x + from.x - to.x, y: state.view.y + from.y - to.y });
    } else if (before) {
      setWipe(at(event).wipe);
    }
    const { x, y } = at(event);
    state.pointer = x >= 0 && x < 1 && y >= 0 && y < 1 ? { x, y } : null;
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => {
    state.pointer = null;
    redraw();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 300), at(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomBy(state.view.zoom > 1 ? 0 : 4, at(event)));

  wipe.addEventListener("pointerdown", (event) => wipe.setPointerCapture(event.pointerId));
  wipe.addEventListener("pointermove", (event) => {
    if (wipe.hasPointerCapture(event.pointerId)) setWipe(at(event).wipe);
  });
  wipe.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05, Home: -1, End: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    setWipe(state.wipe + step);
  });
}
