/* The imaging room: buttons beside the viewer, and files on their way.
   The viewer stands in a frame of our own address; what it has measured and which image it shows is asked of it by message. */
const frame = () => document.querySelector("iframe[data-viewer]");
const said = (words) => {
  const line = document.querySelector("[data-viewer-said]");
  if (line) line.textContent = words;
};
const english = document.documentElement.lang.startsWith("en");
const t = (zh, en) => (english ? en : zh);

/* One question to the viewer, one answer; nothing within two seconds means that it shows nothing yet. */
function ask(what) {
  return new Promise((resolve) => {
    const target = frame();
    if (!target) return resolve(null);
    const id = String(Math.random());
    const done = (answer) => {
      window.removeEventListener("message", hear);
      clearTimeout(late);
      resolve(answer);
    };
    const hear = (event) => {
      if (event.origin === location.origin && event.source === target.contentWindow && event.data?.lianxin === id) done(event.data);
    };
    const late = setTimeout(() => done(null), 2000);
    window.addEventListener("message", hear);
    target.contentWindow.postMessage({ lianxin: id, ask: what }, location.origin);
  });
}

/* A line more in a field of the report; autosave hears of it as of typing. */
function addLines(name, lines) {
  const field = document.querySelector(`textarea[name="${name}"]`);
  if (!field || field.readOnly || field.disabled) return -1;
  const here = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const fresh = lines.filter((line) => !here.includes(line));
  if (fresh.length) {
    field.value = [...here, ...fresh].join("\n");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
  return fresh.length;
}

const told = (count, zh, en) =>
  said(count < 0 ? t("请先认领再书写报告。", "Claim the study first.") : count ? `${t(zh, en)} ${count}` : t("已在报告中。", "It is in the report already."));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-key-image], [data-take-measurements], [data-viewer-large], [data-show]");
  if (!button) return;
  if (button.matches("[data-viewer-large]")) {
    const large = button.closest("[data-viewer-panel]").classList.toggle("is-large");
    button.setAttribute("aria-pressed", String(large));
  } else if (button.matches("[data-show]")) {
    const target = frame();
    target.src = button.dataset.show;
    const back = document.querySelector("[data-back]");
    if (back) back.hidden = button === back;
    target.scrollIntoView({ block: "nearest" });
  } else if (button.matches("[data-key-image]")) {
    const answer = await ask("image");
    if (!answer?.sop) said(t("请先在阅片窗口中选中一幅图像。", "Choose an image in the viewer first."));
    else told(addLines("key_images", [`${answer.sop}${answer.frame > 1 ? `#${answer.frame}` : ""} ${answer.note}`.trim()]), "已加入关键图", "Key images added:");
  } else {
    const answer = await ask("measurements");
    if (!answer?.lines?.length) said(t("阅片窗口中还没有测量。", "Nothing has been measured in the viewer."));
    else told(addLines("measurements", answer.lines), "已加入测量值", "Measurements added:");
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector(".viewer-panel.is-large [data-viewer-large]")?.click();
});

/* Uploads of many files take a while on a township's line: say how far they are. Without this script the form goes as any other. */
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-upload]");
  if (!form) return;
  const files = form.querySelector("input[type=file]").files;
  const line = form.querySelector("[data-upload-state]");
  if (!files.length) return;
  let size = 0;
  for (const file of files) size += file.size;
  line.textContent = t(`正在上传 ${files.length} 个文件（${(size / 1e6).toFixed(1)} MB），请勿离开本页。`, `Uploading ${files.length} files (${(size / 1e6).toFixed(1)} MB); stay on this page.`);
});
