/* What every page runs: Bootstrap's menus, htmx, Alpine (CSP build), and the platform's own habits.
   No inline handlers anywhere: behaviour is found by data- attributes. */
import "bootstrap/js/dist/dropdown";
import "bootstrap/js/dist/offcanvas";
import "bootstrap/js/dist/collapse";
import htmx from "htmx.org";
import Alpine from "@alpinejs/csp";

import { components } from "./parts/components.js";
import { drafts } from "./parts/drafts.js";
import { keyboard } from "./parts/keyboard.js";
import "./pages/care.js";

window.htmx = htmx;

components(Alpine);
Alpine.start();

function ready(root) {
  drafts(root);
  const failed = root.querySelector(".form-errors");
  if (failed) failed.focus();
}

document.addEventListener("htmx:load", (event) => ready(event.detail.elt));
keyboard();

/* A button marked data-once is pressed once: the second press of an impatient hand sends nothing. */
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.dataset.sent) {
    if (form.dataset.sent) event.preventDefault();
    return;
  }
  if (form.dataset.confirm && !form.dataset.confirmed) {
    event.preventDefault();
    askInPlace(form, event.submitter);
    return;
  }
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, 8000);
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});

/* Confirmation stands where the button stood; never a window over the page. */
function askInPlace(form, button) {
  const bar = document.createElement("div");
  bar.className = "confirm-bar";
  bar.setAttribute("role", "alertdialog");
  bar.setAttribute("aria-label", form.dataset.confirm);
  const words = document.createElement("span");
  words.textContent = form.dataset.confirm;
  const yes = document.createElement("button");
  yes.type = "button";
  yes.className = "btn btn-danger btn-sm";
  yes.textContent = form.dataset.confirmYes || button.textContent.trim();
  const no = document.createElement("button");
  no.type = "button";
  no.className = "btn btn-outline-secondary btn-sm";
  no.textContent = form.dataset.confirmNo || "×";
  bar.append(words, yes, no);
  button.hidden = true;
  button.after(bar);
  yes.focus();
  const close = () => {
    bar.remove();
    button.hidden = false;
    button.focus();
  };
  no.addEventListener("click", close);
  bar.addEventListener("keydown", (event) => event.key === "Escape" && close());
  yes.addEventListener("click", () => {
    form.dataset.confirmed = "1";
    form.requestSubmit(button);
  });
}

/* Offline says so, and nothing is pretended to have been sent. */
const bar = document.querySelector("[data-offline]");
function line() {
  if (bar) bar.hidden = navigator.onLine;
}
window.addEventListener("online", line);
window.addEventListener("offline", line);
document.addEventListener("htmx:sendError", () => bar && (bar.hidden = false));
line();
