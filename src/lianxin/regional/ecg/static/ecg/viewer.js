/* The ECG viewer: the server draws (see drawing.py), the script exchanges the drawing without leaving the page, zooms and measures.
   Without it everything but zoom and caliper works through the form. */
(() => {
  "use strict";

  function start(viewer) {
    const sheet = viewer.querySelector("[data-ecg-sheet]");
    const form = viewer.querySelector("[data-ecg-look]");
    const readout = viewer.querySelector("[data-ecg-readout]");
    const press = viewer.querySelector("[data-ecg-caliper]");
    const previous = viewer.querySelector("[data-ecg-previous]");
    const sheets = [sheet, ...(previous ? [previous] : [])];
    let zoom = 1;
    let measuring = false;
    let asked = 0;

    viewer.querySelector("[data-ecg-apply]").hidden = true;
    viewer.querySelector("[data-ecg-tools]").hidden = false;

    function scale() {
      sheets.forEach((place) => {
        const svg = place.querySelector("svg");
        if (!svg) return;
        const wide = Number(svg.dataset.width);
        const box = svg.viewBox.baseVal;
        svg.setAttribute("width", `${wide * zoom}mm`);
        svg.setAttribute("height", `${((wide * box.height) / box.width) * zoom}mm`);
      });
    }

    async function redraw() {
      const mine = ++asked;
      const look = new URLSearchParams(new FormData(form));
      look.delete("recording");
      look.delete("compare");
      for (const place of sheets) {
        const source = place === sheet ? viewer.dataset.src : place.dataset.src;
        try {
          const answer = await fetch(`${source}&${look}`, { credentials: "same-origin" });
          if (!answer.ok) throw new Error(String(answer.status));
          const text = await answer.text();
          if (mine !== asked) return;
          const drawn = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
          if (drawn.nodeName !== "svg") throw new Error("no drawing");
          place.replaceChildren(document.importNode(drawn, true));
        } catch {
          form.submit(); // offline or signed out: the page says so itself
          return;
        }
      }
      scale();
    }

    form.addEventListener("change", redraw);
    viewer.querySelectorAll("[data-ecg-zoom]").forEach((button) =>
      button.addEventListener("click", () => {
        const step = Number(button.dataset.ecgZoom);
        zoom = step === 0 ? 1 : Math.min(4, Math.max(0.5, zoom * (step > 0 ? 1.25 : 0.8)));
        scale();
      }),
    );

    press.addEventListener("click", () => {
      measuring = !measuring;
      press.setAttribute("aria-pressed", String(measuring));
      press.classList.toggle("active", measuring);
      sheets.forEach((place) => place.classList.toggle("measuring", measuring));
      readout.hidden = !measuring;
      readout.textContent = measuring ? readout.dataset.words : "";
      if (!measuring) viewer.querySelectorAll(".ecg-caliper").forEach((mark) => mark.remove());
    });

    sheets.forEach((place) => caliper(place));

    function caliper(place) {
      let from = null;
      const at = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      place.addEventListener("pointerdown", (event) => {
        const svg = place.querySelector("svg");
        if (!measuring || !svg || event.button > 0) return;
        event.preventDefault();
        place.setPointerCapture(event.pointerId);
        from = at(svg, event);
        show(svg, from, from);
      });
      place.addEventListener("pointermove", (event) => {
        if (from) show(place.querySelector("svg"), from, at(place.querySelector("svg"), event));
      });
      const stop = () => {
        from = null;
      };
      place.addEventListener("pointerup", stop);
      place.addEventListener("pointercancel", stop);
    }

    function show(svg, a, b) {
      viewer.querySelectorAll(".ecg-caliper").forEach((mark) => mark.remove());
      const left = Math.min(a.x, b.x);
      const right = Math.max(a.x, b.x);
      const top = Math.min(a.y, b.y);
      const bottom = Math.max(a.y, b.y);
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "path");
      const high = svg.viewBox.baseVal.height;
      mark.setAttribute("class", "ecg-caliper");
      mark.setAttribute("d", `M${left} 0V${high}M${right} 0V${high}M${left} ${top}H${right}V${bottom}H${left}Z`);
      svg.append(mark);
      const unit = Number(svg.dataset.unit);
      const ms = ((right - left) / unit / Number(svg.dataset.speed)) * 1000;
      const mv = (a.y - b.y) / unit / Number(svg.dataset.gain);
      const rate = ms >= 20 ? ` · ${Math.round(60000 / ms)} bpm` : "";
      readout.textContent = `${Math.round(ms)} ms${rate} · ${mv >= 0 ? "+" : "−"}${Math.abs(mv).toFixed(2)} mV`;
    }
  }

  function all(root) {
    root.querySelectorAll("[data-ecg]:not([data-ready])").forEach((viewer) => {
      viewer.dataset.ready = "1";
      start(viewer);
    });
  }

  document.addEventListener("htmx:load", (event) => all(event.detail.elt));
  all(document);
})();
