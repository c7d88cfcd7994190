// What makes pages livelier. Without it they work by loading.
(() => {
  "use strict";

  // Live pieces: `data-live` is a workspace's id or `list`; `data-tick` asks again every few seconds.
  const TICK = 10000;
  const RETRY = 2000;
  let source = null;

  const trigger = (element, name) => window.htmx && window.htmx.trigger(element, name);
  // Events bubble: the list has a name of its own for its news, or each row's would be the list's too.
  const renew = (element) => trigger(element, element.dataset.live === "list" ? "recast" : "changed");
  const live = (name) => document.querySelectorAll(`[data-live="${CSS.escape(name)}"]`);

  function changedAll() {
    const list = live("list");
    (list.length ? list : document.querySelectorAll("[data-live]")).forEach(renew);
  }

  function listen() {
    if (source || document.hidden || !document.querySelector("[data-live]")) return;
    source = new EventSource("/events-stream");
    source.addEventListener("open", () => {
      document.getElementById("pulse").hidden = true;
      // Something may have happened between the making of the page and this moment.
      changedAll();
    });
    source.addEventListener("error", () => {
      document.getElementById("pulse").hidden = false;
      // A browser gives up where the answer was an error, such as one of a proxy.
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(listen, RETRY);
      }
    });
    source.addEventListener("changed", (event) => {
      const change = JSON.parse(event.data);
      const list = live("list");
      if (change.list && list.length) list.forEach(renew);
      else change.workspaces.forEach((id) => live(id).forEach(renew));
    });
  }

  // A browser opens six connections to a host; a page nobody looks at must not hold one.
  function visibility() {
    if (document.hidden) {
      if (source) source.close();
      source = null;
    } else {
      listen();
    }
  }

  // What somebody marks to copy, or asked a question from, is not swapped away under the hand: its news wait.
  const waiting = new Set();
  function busy(element) {
    const selection = window.getSelection();
    const marked = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
    return marked || document.querySelector("dialog[open]") !== null;
  }

  function tick() {
    if (document.hidden) return;
    document.querySelectorAll("[data-tick]").forEach((element) => {
      if (!busy(element)) trigger(element, "tick");
    });
  }

  // Times in the reader's own zone.
  function moments(root) {
    root.querySelectorAll("time[data-moment]").forEach((element) => {
      const at = new Date(element.dateTime);
      const today = at.toDateString() === new Date().toDateString();
      const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
      element.textContent = at.toLocaleString([], today ? clock : { day: "numeric", month: "short", ...clock });
      element.title = at.toLocaleString();
    });
  }

  function prepare(root) {
    moments(root);
    if (navigator.clipboard) root.querySelectorAll(".copy").forEach((button) => (button.hidden = false));
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    const opener = target.closest("[data-dialog]");
    const dialog = opener && document.getElementById(opener.dataset.dialog);
    if (dialog && dialog.showModal && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      dialog.querySelectorAll("form").forEach((form) => form.reset());
      dialog.showModal();
      return;
    }
    const closer = target.closest("dialog [data-close]");
    if (closer) {
      event.preventDefault();
      closer.closest("dialog").close();
    } else if (target instanceof HTMLDialogElement) {
      target.close(); // a click beside it
    }
    const dismiss = target.closest("[data-dismiss]");
    if (dismiss) dismiss.closest(".notice").remove();
    const copy = target.closest(".copy");
    if (copy) {
      const from = copy.dataset.copyFrom && document.getElementById(copy.dataset.copyFrom);
      navigator.clipboard.writeText(from ? from.textContent : copy.dataset.copy).then(() => {
        const before = copy.firstChild.textContent;
        copy.firstChild.textContent = "Copied";
        setTimeout(() => (copy.firstChild.textContent = before), 1500);
      });
    }
  });

  // A form that loads a page is sent once.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    const button = event.submitter;
    if (button) setTimeout(() => (button.disabled = true));
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) document.querySelectorAll("button:disabled").forEach((button) => (button.disabled = false));
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig.verb === "get" && busy(event.detail.target)) {
      event.detail.shouldSwap = false;
      waiting.add(event.detail.target.id);
    }
  });
  function resume() {
    waiting.forEach((id) => {
      const element = document.getElementById(id);
      if (element && busy(element)) return;
      waiting.delete(id);
      if (element) element.dataset.live ? renew(element) : trigger(element, "tick");
    });
  }
  document.addEventListener("selectionchange", resume);
  document.addEventListener("close", resume, true);
  document.addEventListener("htmx:afterSwap", (event) => prepare(event.detail.target.parentElement || document));
  document.addEventListener("htmx:sendError", () => {
    const pulse = document.getElementById("pulse");
    if (pulse) pulse.hidden = false;
  });

  // A list that is narrowed while one types; without scripts the form asks for it.
  function filter(field) {
    const list = document.getElementById(field.dataset.filter);
    const met = field.form.querySelector("[data-met]");
    field.form.querySelector("button").hidden = true;
    field.addEventListener("input", () => {
      const query = field.value.trim().toLowerCase();
      let count = 0;
      list.querySelectorAll("[data-words]").forEach((item) => {
        item.hidden = !item.dataset.words.includes(query);
        if (!item.hidden) count += 1;
      });
      met.textContent = count;
    });
  }

  // The log of one app, or of a build, followed.
  const LONGEST = 5000;
  function follow(log) {
    const box = document.getElementById("follow");
    const empty = document.getElementById("log-empty");
    const ended = document.getElementById("log-end"); // where a log has an end
    let stream = null;
    let lines = 0;
    let anew = false;
    const follows = (whether) => (box.closest("label").hidden = !whether);
    const building = () => document.querySelector("[data-building]") !== null;
    const down = () => (log.scrollTop = log.scrollHeight);
    function open() {
      if (stream || document.hidden || !box.checked) return;
      if (ended) ended.hidden = true;
      follows(true);
      stream = new EventSource(log.dataset.stream);
      // Each connection begins with the latest lines again; what stands there stays until they come.
      stream.addEventListener("begin", () => (anew = true));
      stream.addEventListener("lines", (event) => {
        const found = JSON.parse(event.data);
        const atEnd = anew || log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        if (anew) {
          log.textContent = "";
          lines = 0;
          anew = false;
        }
        log.append(found.join("\n") + "\n");
        lines += found.length;
        if (lines > LONGEST) {
          const kept = log.textContent.split("\n").slice(-LONGEST);
          log.textContent = kept.join("\n");
          lines = kept.length;
        }
        empty.hidden = true;
        if (atEnd) down();
      });
      stream.addEventListener("end", () => {
        close();
        if (!ended) return;
        // What is being built may have had no log yet, only the one of the build before.
        if (building()) return setTimeout(open, RETRY);
        ended.hidden = false;
        follows(false);
      });
    }
    function close() {
      if (stream) stream.close();
      stream = null;
    }
    box.addEventListener("change", () => (box.checked ? open() : close()));
    // What has ended is not followed, until something is built anew.
    const goesOn = () => !ended || ended.hidden || building();
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : goesOn() && open()));
    document.addEventListener("htmx:afterSwap", () => ended && !ended.hidden && building() && open());
    follows(goesOn());
    down();
    if (goesOn()) open();
  }

  prepare(document);
  listen();
  setInterval(tick, TICK);
  document.addEventListener("visibilitychange", visibility);
  document.querySelectorAll("[data-filter]").forEach(filter);
  const log = document.getElementById("log");
  if (log) follow(log);
})();
