/* Runs before the first paint: chosen theme and type size, so that nothing flashes. */
(function () {
  var root = document.documentElement;
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function apply() {
    var theme = localStorage.getItem("lx-theme") || "auto";
    root.dataset.bsTheme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
    root.classList.toggle("large-type", localStorage.getItem("lx-size") === "large");
  }
  apply();
  dark.addEventListener("change", apply);
  window.addEventListener("lx:display", apply);
})();
