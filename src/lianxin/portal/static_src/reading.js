/* The report editor: what is typed saves itself and keeps the claim; a claim that was lost says so and nothing typed is taken away.
   Everything works without this file too: each button sends the whole form. */
const form = document.querySelector("[data-reading-editor]");

if (form) {
  const words = form.dataset;
  const note = form.querySelector("[data-saved]");
  const lease = form.querySelector("[data-lease]");
  const mark = form.elements.mark;
  let until = Date.now() + Number(words.seconds || 0) * 1000;
  let dirty = false;
  let lost = false;
  let timer;
  let running = null;
  let touched = Date.now();
  let renewed = Date.now();

  const post = (url) =>
    fetch(url, { method: "POST", body: new FormData(form), headers: { Accept: "application/json" }, credentials: "same-origin" });

  const giveUp = (text) => {
    lost = true;
    note.textContent = text;
    note.className = "notice-bar notice-error";
    form.querySelectorAll("button[type=submit]").forEach((button) => (button.disabled = true));
    lease.hidden = true;
  };

  async function save() {
    if (lost || running) return running;
    dirty = false;
    note.textContent = words.wordsSaving;
    running = (async () => {
      try {
        const answer = await post(words.save);
        const told = answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : {};
        if (answer.status === 409) giveUp(told.lost);
        else if (answer.status === 422) note.textContent = Object.values(told.errors || {}).join(" ");
        else if (answer.ok) {
          mark.value = told.mark;
          until = Date.now() + told.seconds * 1000;
          renewed = Date.now();
          note.textContent = `${words.wordsSaved} ${told.saved}`;
        } else throw new Error(String(answer.status));
      } catch {
        dirty = true;
        note.textContent = words.wordsOffline;
        timer = setTimeout(save, 5000);
      } finally {
        running = null;
      }
    })();
    return running;
  }

  const changed = () => {
    dirty = true;
    clearTimeout(timer);
    timer = setTimeout(save, 1500);
  };
  form.addEventListener("input", changed);
  form.addEventListener("change", changed);
  window.addEventListener("online", () => dirty && save());
  window.addEventListener("beforeunload", (event) => dirty && !form.dataset.sent && event.preventDefault());

  /* Whoever looks at images types nothing: moving the hand keeps the claim, every four minutes. */
  for (const kind of ["pointermove", "keydown", "wheel"])
    document.addEventListener(kind, () => (touched = Date.now()), { passive: true });
  setInterval(async () => {
    const left = Math.max(0, Math.round((until - Date.now()) / 60000));
    lease.hidden = lost;
    lease.textContent = words.wordsLeft.replace("#", left);
    lease.classList.toggle("clock-soon", left <= 5 && left > 1);
    lease.classList.toggle("clock-late", left <= 1);
    if (lost || touched < renewed || Date.now() - renewed < 240000) return;
    renewed = Date.now();
    try {
      const answer = await post(words.renew);
      const told = await answer.json();
      if (answer.status === 409) giveUp(told.lost);
      else if (answer.ok) until = Date.now() + told.seconds * 1000;
    } catch {
      note.textContent = words.wordsOffline;
    }
  }, 1000);

  /* Templates and phrases. */
  let last = form.elements.conclusion;
  for (const name of ["findings", "conclusion"]) form.elements[name].addEventListener("focus", (event) => (last = event.target));
  const insert = (text) => {
    const at = last.selectionStart ?? last.value.length;
    last.setRangeText(text, at, last.selectionEnd ?? at, "end");
    last.focus();
    changed();
  };
  form.querySelectorAll("[data-phrases]").forEach((box) => {
    box.hidden = false;
    box.addEventListener("click", (event) => {
      const phrase = event.target.closest("[data-phrase]");
      if (phrase) insert(phrase.dataset.phrase);
    });
  });
  const use = form.querySelector("[data-template-insert]");
  const choice = form.querySelector("[data-template]");
  if (use) {
    use.hidden = false;
    use.addEventListener("click", async () => {
      const chosen = choice.selectedOptions[0];
      if (!chosen.value) return;
      for (const name of ["findings", "conclusion"]) {
        const area = form.elements[name];
        const text = chosen.dataset[name] || "";
        if (!area.value.includes(text)) area.value = area.value.trim() ? `${area.value.trim()}\n${text}` : text;
      }
      const positive = form.querySelector(`[name=positive][value="${chosen.dataset.positive}"]`);
      if (positive) positive.checked = true;
      await save();
      if (!lost) {
        dirty = false;
        window.location.reload();
      }
    });
  }
  /* ___ is where something is measured: Tab from one to the next. */
  form.addEventListener("keydown", (event) => {
    const area = event.target;
    if (event.key !== "Tab" || event.shiftKey || area.tagName !== "TEXTAREA") return;
    const next = area.value.indexOf("___", area.selectionEnd);
    if (next < 0) return;
    event.preventDefault();
    area.setSelectionRange(next, next + 3);
  });

  /* The viewer beside tells of what was measured and marked. */
  const append = (name) => (event) => {
    const area = form.elements[name];
    area.value = [area.value.trim(), String(event.detail)].filter(Boolean).join("\n");
    area.closest("details")?.setAttribute("open", "");
    changed();
  };
  document.addEventListener("lx:measurement", append("measurements"));
  document.addEventListener("lx:key-image", append("key_images"));

  document.addEventListener("keydown", (event) => {
    const button = (selector) => form.querySelector(selector);
    if ((event.ctrlKey || event.metaKey) && event.key === "s") {
      event.preventDefault();
      save();
    } else if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && button("[data-sign]") && !lost) {
      event.preventDefault();
      form.requestSubmit(button("[data-sign]"));
    } else if (event.altKey && (event.key === "1" || event.key === "2")) {
      event.preventDefault();
      form.elements[event.key === "1" ? "findings" : "conclusion"].focus();
    }
  });

  /* A move of another form (arbitration, a retake) goes out after what is typed here was kept. */
  document.addEventListener(
    "submit",
    (event) => {
      if (event.target === form) {
        dirty = false;
        clearTimeout(timer);
        return;
      }
      if (!dirty || lost || event.target.dataset.flushed) return;
      event.preventDefault();
      event.stopPropagation();
      clearTimeout(timer);
      const [target, by] = [event.target, event.submitter];
      save().then(() => {
        target.dataset.flushed = "1";
        target.requestSubmit(by);
      });
    },
    true,
  );
}
