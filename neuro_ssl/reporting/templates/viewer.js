// One NiiVue at a time: browsers allow few WebGL contexts. Voxels hold levels: 127 is the map's `limit`.
(() => {
  const LEVELS = 127, BRAIN = "background.nii.gz", MAP = "attribution.nii.gz";
  const colours = JSON.parse(document.getElementById("viewer-colours").textContent);
  let close = () => {};

  // Level 0 is transparent, all others opaque; NiiVue fills in between.
  const lut = list => ({
    R: [0, ...list.map(c => c[0])], G: [0, ...list.map(c => c[1])], B: [0, ...list.map(c => c[2])],
    A: [0, ...list.map(() => 255)], I: [0, ...list.map((_, i) => Math.round(1 + i * 254 / (list.length - 1)))],
  });
  const number = x => x.toPrecision(2).replace("-", "−");
  const place = ([x, y, z]) => [[x, "right", "left"], [y, "anterior", "posterior"], [z, "superior", "inferior"]]
    .map(([mm, plus, minus]) => `${Math.abs(Math.round(mm))} mm ${mm < 0 ? minus : plus}`).join(", ");

  function loadNiivue() {
    if (window.niivue) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("niivue-script").textContent;
    document.head.append(script);
  }

  function release(nv) {
    nv.cleanup();
    nv.gl.getExtension("WEBGL_lose_context").loseContext();
  }

  async function open(box, data) {
    close();
    const button = box.querySelector("button");
    button.hidden = true;
    box.append(document.getElementById("viewer").content.cloneNode(true));
    const at = selector => box.querySelector(selector), control = name => at(`[name=${name}]`);
    const canvas = at("canvas"), closed = () => !canvas.isConnected; // it may be while something loads
    let nv;
    close = () => {
      if (nv) release(nv);
      delete box.dataset.ready;
      for (const child of [...box.children]) if (child !== button && child.tagName !== "SCRIPT") child.remove();
      button.hidden = false;
      close = () => {};
    };
    control("close").addEventListener("click", () => { close(); button.focus(); });
    control("map").append(...data.maps.map((map, i) => new Option(map.title, i)));
    const trial = document.createElement("canvas").getContext("webgl2");
    trial?.getExtension("WEBGL_lose_context").loseContext();
    if (!trial) {
      at(".place").textContent = "This browser has no WebGL 2, which drawing in 3D needs. The figure above shows the map.";
      return;
    }
    loadNiivue();
    const started = new niivue.Niivue({
      logLevel: "error", dragAndDropEnabled: false, sliceType: 3, multiplanarShowRender: 1, multiplanarPadPixels: 6,
      isOrientCube: true, showAllOrientationMarkers: true, fontMinPx: 16, fontColor: [1, 1, 1, 1],
      show3Dcrosshair: true, crosshairColor: [0.94, 0.89, 0.26, 0.8], crosshairWidthUnit: "mm", crosshairWidth: 0.8,
    });
    for (const name in colours) started.addColormap(name, lut(colours[name]));
    await started.attachToCanvas(canvas);
    if (closed()) return release(started);
    nv = started;
    const load = (base64, name, options) => niivue.NVImage.loadFromBase64({ base64, name, ...options });
    const brain = await load(data.background, BRAIN, { colormap: "gray", cal_min: 0, cal_max: 255 });
    if (closed()) return;
    nv.addVolume(brain);
    const map = () => data.maps[control("map").value];

    function recolour() {
      const { limit, thresholds, signed } = map(), [share, level] = thresholds[control("shown").value];
      const volume = nv.volumes[1];
      [volume.cal_min, volume.cal_max, volume.cal_minNeg, volume.cal_maxNeg] = [level, LEVELS, -level, -LEVELS];
      nv.setOpacity(1, Number(control("opacity").value));
      const least = limit * level / LEVELS;
      at("output").textContent = `${share} % of the brain`;
      const css = list => list.map(c => `rgb(${c})`), from = 100 * level / LEVELS;
      const up = css(colours[signed ? "raises" : "unsigned"]), down = css(colours.lowers);
      const right = x => signed ? 50 + x / 2 : x, left = x => 50 - x / 2;
      const stops = (list, to) => list.map((c, i) => [100 * i / (list.length - 1), c])
        .filter(([x]) => x >= from).map(([x, c]) => [to(x), c]);
      const hidden = "#ddd", shown = stops(up, right);
      const all = signed ? [...stops(down, left).reverse(), [left(from), hidden], [right(from), hidden], ...shown]
        : [[0, hidden], [right(from), hidden], ...shown];
      at(".bar").style.background = `linear-gradient(90deg, ${all.map(([x, c]) => `${c} ${x}%`)})`;
      at(".low").textContent = signed ? `lowers: −${number(limit)} ${map().unit} and below` : "0";
      at(".high").textContent = `${signed ? "raises: +" : ""}${number(limit)} ${map().unit} and above`;
      at(".hidden").textContent = `grey: hidden, ${signed ? "between ±" : "below "}${number(least)}`;
    }

    function goToPeak() {
      nv.scene.crosshairPos = nv.mm2frac(map().peak_mm);
      nv.createOnLocationChange();
      nv.drawScene();
    }

    async function showMap() {
      const { data: base64, signed, thresholds } = map();
      const colormap = signed ? { colormap: "raises", colormapNegative: "lowers" } : { colormap: "unsigned" };
      const volume = await load(base64, MAP, { ...colormap, cal_min: 1, cal_max: LEVELS });
      if (closed()) return;
      if (nv.volumes[1]) nv.removeVolume(nv.volumes[1]);
      if (!control("outside").checked) volume.img = volume.img.map((level, i) => brain.img[i] && level);
      volume.colormapType = 1; // colours run from 0 and mean the same whatever is hidden
      nv.addVolume(volume);
      control("shown").max = thresholds.length - 1;
      recolour();
    }

    nv.onLocationChange = ({ mm, values }) => {
      const level = values[1]?.value ?? 0, value = level * map().limit / LEVELS;
      const more = Math.abs(level) >= LEVELS ? (level > 0 ? "at least " : "at most ") : "";
      const sign = map().signed && level > 0 ? "+" : "";
      at(".place").textContent = `${place(mm)} (MNI ${[...mm].slice(0, 3).map(Math.round).join(", ").replaceAll("-", "−")}): `
        + `attribution ${more}${sign}${number(value)} ${map().unit}`;
    };
    control("shown").max = map().thresholds.length - 1;
    control("shown").value = 3;
    await showMap();
    if (closed()) return;
    goToPeak();
    control("map").addEventListener("change", () => showMap().then(() => closed() || goToPeak()));
    control("outside").addEventListener("change", showMap);
    control("view").addEventListener("change", event => nv.setSliceType(Number(event.target.value)));
    control("sides").addEventListener("change", event => nv.setRadiologicalConvention(Boolean(event.target.value)));
    for (const name of ["shown", "opacity"]) control(name).addEventListener("input", recolour);
    control("peak").addEventListener("click", goToPeak);
    box.dataset.ready = "yes";
  }

  for (const box of document.querySelectorAll(".viewer")) {
    const data = JSON.parse(box.querySelector("script").textContent);
    box.querySelector("button").addEventListener("click", () => open(box, data));
  }
})();
