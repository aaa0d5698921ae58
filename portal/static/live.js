// Live pages: refreshes rows when a case changes, and says so when it cannot.
"use strict";
(() => {
  const live = document.getElementById("live");
  const target = document.getElementById("rows") || document.getElementById("state");
  if (!live || !target) return;
  const words = document.getElementById("live-state");
  const stale = document.getElementById("stale");
  const announce = document.getElementById("announce");
  const sound = document.getElementById("sound");
  const mine = live.dataset.case;

  const POLL_MS = 10000;
  let heardAt = Date.now();
  let liveSince = 0;
  let polledAt = 0;
  let refreshedAt = Date.now();
  let failed = false;
  let pending = null;
  let busy = false;
  const title = document.title.replace(/^\(\d+\) /, "");

  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const staleMs = () => Number(live.dataset.staleS) * 1000;

  function heard() { heardAt = Date.now(); liveSince = liveSince || heardAt; draw(); }

  function refresh() {
    if (busy) { pending = pending || setTimeout(later, 500); return; }
    busy = true;
    htmx.trigger(target, "refresh");
  }
  function later() { pending = null; refresh(); }
  function refreshSoon() { if (!pending) pending = setTimeout(later, 150); }

  live.addEventListener("alive", heard);
  live.addEventListener("reload", () => { heard(); refreshSoon(); });
  live.addEventListener("change", (event) => {
    heard();
    if (!mine || (event.detail && String(event.detail.data).includes(`"${mine}"`))) refreshSoon();
  });

  document.body.addEventListener("htmx:after:request", (event) => {
    const detail = event.detail && event.detail.ctx;
    if (!detail || detail.sourceElement !== target) return;
    busy = false;
    const status = detail.response ? detail.response.status : 0;
    failed = status !== 200;
    if (failed) event.preventDefault();  // an error page must not take the place of the list
    if (status === 401) location.reload();
    if (!failed) refreshedAt = Date.now();
    draw();
  });
  document.body.addEventListener("htmx:error", (event) => {
    const detail = event.detail && event.detail.ctx;
    if (detail && detail.sourceElement === target) { busy = false; failed = true; draw(); }
  });
  document.body.addEventListener("htmx:after:swap", () => { ages(); alerts(); });

  function draw() {
    const frozen = Date.now() - heardAt > staleMs();
    document.documentElement.classList.toggle("not-live", frozen);
    if (!frozen) {
      words.textContent = liveSince ? "Live" : "Connecting";
      live.dataset.state = liveSince ? "live" : "connecting";
      stale.hidden = true;
      return;
    }
    live.dataset.state = "stale";
    words.textContent = "Not live";
    const text = failed
      ? `Not live since ${clock(heardAt)}. The portal does not answer: this page shows what was known at ${clock(refreshedAt)}.`
      : `Not live since ${clock(heardAt)}. This page asks every 10 s instead; last answer ${clock(refreshedAt)}.`;
    if (stale.textContent !== text) stale.textContent = text;
    stale.hidden = false;
  }

  setInterval(() => {
    const now = Date.now();
    if (now - heardAt > staleMs()) {
      liveSince = 0;
      if (now - polledAt >= POLL_MS) {
        polledAt = now;
        busy = false;
        refresh();
        htmx.trigger(live, "reconnect");
      }
    }
    draw();
  }, 1000);

  // ages ------------------------------------------------------------------------------------------------------------------
  function age(seconds) {
    const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
    for (const [size, unit, below, less] of units) {
      if (seconds >= size) {
        const rest = Math.floor((seconds % size) / below);
        return `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${less}` : "");
      }
    }
    return `${Math.max(0, Math.floor(seconds))} s`;
  }
  function ages() {
    for (const one of document.querySelectorAll("[data-since]")) {
      const text = age((Date.now() - Date.parse(one.dataset.since)) / 1000);
      if (one.textContent !== text) one.textContent = text;
    }
  }
  setInterval(ages, 5000);

  // new alerts ------------------------------------------------------------------------------------------------------------
  const open = () => new Map([...document.querySelectorAll("tr[data-alert]")].map((row) => [row.dataset.case, row.dataset.alert]));
  let known = open();
  function alerts() {
    const facts = document.getElementById("list-facts");
    if (!facts) return;
    const count = Number(facts.dataset.open);
    document.title = count ? `(${count}) ${title}` : title;
    const shown = document.getElementById("open-count");
    if (shown) shown.textContent = String(count);
    const present = open();
    const fresh = [...present].filter(([id]) => !known.has(id));
    known = present;
    if (!fresh.length) return;
    announce.textContent = fresh.map(([id, what]) => `New alert: case ${id}, ${what}.`).join(" ");
    if (audible) beep();
  }

  // sound -----------------------------------------------------------------------------------------------------------------
  let audible = false;
  let audio = null;
  function beep() {
    if (!audio) return;
    for (const [start, pitch] of [[0, 880], [0.25, 660], [0.5, 880]]) {
      const tone = audio.createOscillator();
      const gain = audio.createGain();
      tone.frequency.value = pitch;
      gain.gain.setValueAtTime(0.2, audio.currentTime + start);
      gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + start + 0.22);
      tone.connect(gain).connect(audio.destination);
      tone.start(audio.currentTime + start);
      tone.stop(audio.currentTime + start + 0.23);
    }
  }
  if (sound && window.AudioContext) {
    sound.hidden = false;
    sound.addEventListener("click", () => {
      audible = !audible;
      sound.setAttribute("aria-pressed", String(audible));
      sound.textContent = audible ? "Sound: on" : "Sound: off";
      if (audible) { audio = audio || new AudioContext(); audio.resume(); beep(); }
    });
  }
  draw();
})();
