// Theme: dark, or light where this browser's user chose it. Runs before the page is drawn.
(() => {
  const root = document.documentElement;
  let chosen = "dark";
  try { chosen = localStorage.getItem("theme") === "light" ? "light" : "dark"; } catch { /* no storage: dark */ }
  root.dataset.theme = chosen;
  root.classList.add("js");
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const show = () => { button.textContent = root.dataset.theme === "dark" ? "Light theme" : "Dark theme"; };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept */ }
      show();
    });
  });
})();
