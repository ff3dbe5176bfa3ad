/* Keys for desks: / finds, j and k walk the lines (anything marked data-line), Enter acts, g h goes home, ? helps. */

function typing(target) {
  return target.closest("input, textarea, select, [contenteditable]");
}

function walk(step) {
  const lines = [...document.querySelectorAll("[data-line]")].filter((line) => line.offsetParent);
  if (!lines.length) return;
  const at = lines.findIndex((line) => line.classList.contains("is-current"));
  const next = lines[Math.min(Math.max(at + step, 0), lines.length - 1)];
  lines.forEach((line) => line.classList.toggle("is-current", line === next));
  const act = next.querySelector("[data-act]") || next.querySelector("a[href], button");
  if (act) act.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

export function keyboard() {
  let went = 0;
  const help = () => document.querySelector("[data-help-dialog]");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const find = document.querySelector("[data-find]");
    if (event.key === "/" && find) {
      event.preventDefault();
      find.focus();
      find.select();
    } else if (event.key === "j") {
      walk(1);
    } else if (event.key === "k") {
      walk(-1);
    } else if (event.key === "g") {
      went = Date.now();
    } else if (event.key === "h" && Date.now() - went < 1200) {
      window.location.assign("/");
    } else if (event.key === "?" && help()) {
      if (help().open) help().close();
      else help().showModal();
    }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-help]") && help()) help().showModal();
  });
}
