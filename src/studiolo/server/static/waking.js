// The page that is shown while a workspace wakes: it follows the stages and opens the app as soon as it answers.
(() => {
  "use strict";

  const STAGES = ["locked", "built", "started", "ready"];
  // Milliseconds without news after which the page is asked for again: what it shows is the truth.
  const QUIET = 5000;
  const RETRY = 1000;
  const page = document.getElementById("waking");
  if (!page || page.dataset.failed === "yes") return;
  const doing = document.getElementById("doing");
  const elapsed = document.getElementById("elapsed");
  // An app that was said to answer, and then could not be reached, is not asked for again at once.
  const FIRST = page.dataset.state === "ready" ? RETRY : 0;
  let heard = Date.now();
  let begun = Date.now();
  let leaving = false;
  let rested = false;

  function again() {
    if (leaving || rested) return;
    leaving = true;
    setTimeout(() => location.reload(), Math.max(0, FIRST - performance.now()));
  }

  const stage = (name) => page.querySelector(`[data-stage="${name}"]`);
  const spoken = (seconds) => (seconds < 0.995 ? `${seconds.toFixed(2)} s` : seconds < 9.95 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`);
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

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

  // The answer comes when the app answers, or when it is known that it will not.
  async function untilReady() {
    while (!leaving) {
      let answer = null;
      let told = "";
      try {
        answer = await fetch(page.dataset.ready, { cache: "no-store" });
        if (answer.status !== 204) told = (await answer.json()).code;
      } catch {
        // The edge or the control plane is away for a moment.
      }
      if (told === "stopped") {
        // Somebody stopped it. To load the page anew would start it again.
        rested = true;
        document.getElementById("underway").hidden = true;
        document.getElementById("rested").hidden = false;
        events.close();
        return;
      }
      if (answer && (answer.status === 204 || !["", "still-waking", "too-many-waiting", "control-plane-down"].includes(told))) return again();
      await pause(RETRY);
    }
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
  ["running", "failed", "app-started"].forEach((kind) => news(kind, again));
  untilReady();

  setInterval(() => {
    const current = page.querySelector(".stage-current [data-seconds]");
    if (current) current.textContent = spoken((Date.now() - begun) / 1000);
    if (elapsed) elapsed.textContent = spoken(Number(elapsed.dataset.seconds) + performance.now() / 1000);
    if (Date.now() - heard > QUIET && !document.hidden) again();
  }, 100);
})();
