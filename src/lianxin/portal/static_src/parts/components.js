/* Alpine components (CSP build: expressions in markup are names only, logic lives here). */

export function components(Alpine) {
  /* Theme and type size, kept on this device. */
  Alpine.data("display", () => ({
    chosen: localStorage.getItem("lx-theme") || "auto",
    large: localStorage.getItem("lx-size") === "large",
    words: {},
    init() {
      this.$root.querySelectorAll("button").forEach((button) => Object.assign(this.words, button.dataset));
    },
    get themeLabel() {
      return this.words[this.chosen];
    },
    get sizeLabel() {
      return this.large ? this.words.large : this.words.normal;
    },
    theme() {
      const order = ["auto", "light", "dark"];
      this.chosen = order[(order.indexOf(this.chosen) + 1) % order.length];
      localStorage.setItem("lx-theme", this.chosen);
      window.dispatchEvent(new Event("lx:display"));
    },
    size() {
      this.large = !this.large;
      localStorage.setItem("lx-size", this.large ? "large" : "normal");
      window.dispatchEvent(new Event("lx:display"));
    },
  }));

  /* <div x-data="toggle"><button x-on:click="flip">…</button><div x-show="open">…</div></div> */
  Alpine.data("toggle", () => ({
    open: false,
    flip() {
      this.open = !this.open;
    },
  }));

  /* Copies the text of the element marked x-ref="text". */
  Alpine.data("copy", () => ({
    done: false,
    async copy() {
      await navigator.clipboard.writeText(this.$refs.text.textContent.trim());
      this.done = true;
    },
  }));
}
