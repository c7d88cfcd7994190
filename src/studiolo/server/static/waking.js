// The page that is shown while a workspace wakes: it follows the stages and opens the app as soon as it answers.
(() => {
  "use strict";

  const STAGES = ["locked", "built", "started", "ready"];
  // Milliseconds without news after which the page is asked for again: what it shows is the truth.
  const QUIET = 5000;
  const page = document.getElementById("waking");
  if (!page || page.dataset.failed === "yes") return;
  const doing = document.getElementById("doing");
  let heard = Date.now();
  let begun = Date.now();
  let leaving = false;

  function again() {
    if (leaving) return;
    leaving = true;
    location.reload();
  }

  const stage = (name) => page.querySelector(`[data-stage="${name}"]`);
  const spoken = (seconds) => (seconds < 0.995 ? `${seconds.toFixed(2)} s` : seconds < 9.95 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`);

  function done(name, seconds) {
    const ended = stage(name);
    if (!ended) return;
    ended.className = "stage stage-done";
    ended.querySelector(".stage-title").textContent = ended.dataset.done;
    ended.querySelector("[data-seconds]").textContent = spoken(seconds);
    const next = stage(STAGES[STAGES.indexOf(name) + 1]);
    if (next) {
      next.className = "stage stage-current";
      next.querySelector(".stage-title").textContent = next.dataset.doing;
    }
    begun = Date.now();
  }

  const events = new EventSource(page.dataset.events);
  const news = (kind, react) =>
    events.addEventListener(kind, (message) => {
      heard = Date.now();
      react(JSON.parse(message.data));
    });
  news("progress", (event) => {
    if (doing) doing.textContent = event.message;
  });
  STAGES.forEach((name) => news(name, (event) => event.seconds !== null && done(name, event.seconds)));
  ["running", "failed", "stopped", "app-started", "app-ready"].forEach((kind) => news(kind, again));

  // Between this page's making and the first event the app may have become ready: then nothing will be told.
  events.addEventListener("open", async () => {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.status !== 503) again();
    } catch {
      // The edge is away for a moment; the next look is in `QUIET`.
    }
  });

  setInterval(() => {
    const current = page.querySelector(".stage-current [data-seconds]");
    if (current) current.textContent = spoken((Date.now() - begun) / 1000);
    if (Date.now() - heard > QUIET && !document.hidden) again();
  }, 100);
})();
