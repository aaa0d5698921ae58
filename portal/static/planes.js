// Three planes of the aligned head with the core map (NiiVue), on request and where WebGL2 exists.
"use strict";
(() => {
  const root = document.getElementById("planes");
  if (!root) return;
  const button = root.querySelector("button");
  const words = root.querySelector("#planes-words");
  const canvas = root.querySelector("canvas");
  const frame = root.querySelector(".gl");

  function supported() {
    try { return Boolean(document.createElement("canvas").getContext("webgl2")); } catch { return false; }
  }
  if (!supported()) {
    words.textContent = "Three planes need WebGL2, which this browser does not have. The slice viewer shows the same core.";
    return;
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    button.disabled = true;
    words.textContent = "Loading";
    const script = document.createElement("script");
    script.src = root.dataset.script;
    script.onload = () => open().catch(() => { words.textContent = "The planes cannot be shown in this browser."; frame.hidden = true; });
    script.onerror = () => { words.textContent = "The viewer could not be loaded."; button.disabled = false; };
    document.head.append(script);
  });

  async function open() {
    frame.hidden = false;
    const viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], show3Dcrosshair: true, isRadiologicalConvention: true, isColorbar: false, multiplanarLayout: 2, multiplanarShowRender: 0, showAllOrientationMarkers: true,
      fontColor: [1, 0.91, 0.66, 1], fontMinPx: 16, fontSizeScaling: 0.6, logLevel: "error",
      crosshairColor: [0.34, 0.86, 1, 0.7], dragAndDropEnabled: false, loadingText: "",
    });
    await viewer.attachToCanvas(canvas);
    await viewer.loadVolumes([
      { url: `${root.dataset.base}/volumes/aligned.nii.gz`, colormap: "gray", cal_min: 0, cal_max: 80 },
      ...(root.dataset.core ? [{ url: `${root.dataset.base}/volumes/core_map.nii.gz`, colormap: "warm", cal_min: 50, cal_max: 100, opacity: 0.5 }] : []),
    ]);
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    words.textContent = "Click or drag to move the crosshair; the patient's right is on the left.";
    button.hidden = true;
    canvas.dataset.ready = "yes";
  }
})();
