// The quiz: a viewer, a question, an answer, and what was true. Nothing of the truth is here before "confirm".

import { el, frame } from "../base/dom.js";
import { linkOf } from "../base/link.js";
import { drawViewer } from "../viewer/draw.js";
import { revealedPanel } from "./revealed.js";

const QUIZ_NOTHING = "nothing";
const RESULT_SIGNS = { "": "", right: "✓", wrong: "✗", open: "?" };
const RESULT_WORDS = { "": "not answered", right: "right", wrong: "wrong", open: "answered, not judged" };

class DrawnQuiz {
  constructor(model, host) {
    Object.assign(this, { model, link: linkOf(model), draft: null, revealed: null, viewer: null, undo: [], busy: false });
    this.frame = frame(host, this.link, model, "Quiz");
    this.root = this.frame.root;
    this.root.classList.add("dl-quiz");
    this.root.tabIndex = -1; // has the focus while what had it is taken away: keys go on to work
    this.build();
    this.listen();
    this.drawPicture();
    this.ask("here");
  }

  build() {
    this.count = el("strong", { class: "dl-quiz-count" });
    this.score = el("span", { class: "dl-quiz-score" });
    this.bar = el("div", { class: "dl-quiz-bar", role: "group", "aria-label": "Items" });
    this.question = el("p", { class: "dl-quiz-question" });
    this.picture = el("div", { class: "dl-quiz-picture" });
    this.answer = el("div", { class: "dl-quiz-answer" });
    this.outcome = el("div", { class: "dl-quiz-outcome" });
    this.confirmer = el("button", { class: "dl-quiz-confirm", onclick: () => this.confirm() }, "Confirm");
    this.before = el("button", { onclick: () => this.go(-1) }, "Previous");
    this.after = el("button", { onclick: () => this.go(1) }, "Next");
    this.hint = el("span", { class: "dl-muted dl-quiz-hint" });
    const head = el("div", { class: "dl-row dl-quiz-head" }, this.count, this.bar, this.score);
    const deeds = el("div", { class: "dl-row" }, this.confirmer, this.before, this.after, this.hint);
    this.root.append(head, this.picture, this.question, this.answer, deeds, this.outcome);
  }

  listen() {
    this.on("change:picture", () => this.drawPicture());
    this.on("change:item", () => this.ask("here"));
    this.on("change:results change:options change:question change:kind", () => this.show());
    this.undo.push(this.link.on("revealed", (told) => this.take(told)));
    const onKey = (event) => this.key(event);
    this.root.addEventListener("keydown", onKey, true); // before the viewer, whose digits choose windows
    this.undo.push(() => this.root.removeEventListener("keydown", onKey, true));
  }

  /** Listen to the model until this view is gone; one name at a time, as marimo knows no lists of them. */
  on(names, callback) {
    for (const name of names.split(" ")) {
      this.model.on(name, callback);
      this.undo.push(() => this.model.off(name, callback));
    }
  }

  /** What has the focus, also where the widget lives in a shadow tree. */
  focused() {
    return this.root.getRootNode().activeElement;
  }

  dispose() {
    for (const undo of this.undo.splice(0)) undo();
    this.dropPicture();
    this.frame.dispose();
    this.root.remove();
  }

  // ---- the picture

  async drawPicture() {
    const reference = this.model.get("picture");
    this.keepingFocus(() => this.dropPicture());
    this.shown = reference;
    if (!reference) return;
    try {
      const child = await this.model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""));
      if (this.shown !== reference) return;
      this.viewer = drawViewer({ model: child, el: this.picture, naming: false }); // its editor would take Enter, N and P
      const marked = () => this.show();
      child.on("change:marks", marked);
      this.forget = () => child.off("change:marks", marked);
      if (this.focused() === this.root) this.picture.querySelector("canvas")?.focus({ preventScroll: true });
      this.show();
    } catch (failure) {
      this.frame.showError(`The image cannot be shown: ${failure.message}`);
    }
  }

  /** Do what takes elements away; if one of them has the focus, the root gets it. */
  keepingFocus(work) {
    const had = this.root.contains(this.focused());
    work();
    if (had && !this.root.contains(this.focused())) this.root.focus({ preventScroll: true });
  }

  dropPicture() {
    this.forget?.();
    this.viewer?.dispose();
    this.viewer = this.forget = null;
    this.picture.replaceChildren();
  }

  /** The newest point on the image, or null. */
  mark() {
    const points = (this.viewer?.model.get("marks") || []).filter((one) => one.tool === "point");
    return points.length ? points[points.length - 1] : null;
  }

  // ---- asks

  async ask(name, args = {}) {
    this.busy = true;
    try {
      const { data } = await this.link.ask(name, args);
      this.frame.showError("");
      this.take(data);
    } catch (failure) {
      this.frame.showError(failure.message);
    } finally {
      this.busy = false;
      this.show();
    }
  }

  take({ item, revealed }) {
    if (item !== this.model.get("item")) return;
    if (item !== this.item) this.draft = null;
    const fresh = revealed && !this.revealed && item === this.item;
    Object.assign(this, { item, revealed });
    this.show();
    this.frame.state("ready");
    const verdict = this.outcome.querySelector(".dl-quiz-verdict");
    if (fresh && this.root.contains(this.focused())) verdict?.focus({ preventScroll: true });
    this.frame.announce(verdict?.textContent || `${this.count.textContent}: ${this.question.textContent}`);
  }

  go(steps) {
    const item = this.model.get("item") + steps;
    if (this.busy || item < 0 || item >= this.model.get("results").length) return;
    this.ask("go", { item });
  }

  goTo(item) {
    if (!this.busy) this.ask("go", { item });
  }

  confirm() {
    if (this.busy || this.revealed || this.confirmer.disabled) return;
    const mark = this.kind === "mark" && this.draft !== QUIZ_NOTHING ? this.mark() : null;
    const place = mark && { plane: mark.plane, index: mark.index, point: mark.points[0] };
    this.ask("confirm", { item: this.model.get("item"), answer: this.draft, mark: place });
  }

  get kind() {
    return this.model.get("kind");
  }

  choose(answer) {
    if (this.revealed) return;
    this.draft = this.draft === answer && this.kind === "mark" ? null : answer;
    this.show();
  }

  // ---- keys

  /** Choose an option; a button that has the focus would take the Enter that confirms, so the option gets it. */
  chooseByKey(answer, target) {
    this.choose(answer);
    if (!target.closest("button, summary")) return;
    [...this.answer.querySelectorAll("[data-answer]")].find((one) => one.dataset.answer === answer)?.focus({ preventScroll: true });
  }

  /** Digits choose, Enter confirms, N and P go on and back; what is typed is left alone. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    if (!this.takes(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  takes(event) {
    const writing = event.target.matches("textarea");
    const pressed = event.target.closest("[data-answer][aria-pressed=true]"); // what a click chose keeps the focus
    if (event.key === "Enter" && (pressed || !event.target.closest("button, summary")) && !(writing && event.shiftKey)) {
      if (this.revealed) this.go(1);
      else this.confirm();
      return true;
    }
    if (writing) return false;
    const options = this.model.get("options");
    if (/^[1-9]$/.test(event.key) && this.kind === "choice") {
      if (options[event.key - 1] !== undefined) this.chooseByKey(options[event.key - 1], event.target);
      return true;
    }
    const steps = { n: 1, N: 1, p: -1, P: -1 }[event.key];
    if (steps) this.go(steps);
    return Boolean(steps);
  }

  // ---- what is shown

  show() {
    const results = this.model.get("results");
    const item = this.model.get("item");
    this.count.textContent = `${item + 1} of ${results.length}`;
    this.question.textContent = this.model.get("question");
    this.showBar(results, item);
    this.showAnswer();
    const ready = this.kind === "mark" ? this.draft === QUIZ_NOTHING || this.mark() : (this.draft || "").trim();
    this.keepingFocus(() => (this.confirmer.hidden = Boolean(this.revealed)));
    this.confirmer.disabled = !ready;
    this.before.disabled = item === 0;
    this.after.disabled = item === results.length - 1;
    const choosing = this.kind === "choice" ? "1–9 choose, " : "";
    this.hint.textContent = this.revealed ? "Enter or N next, P previous" : `${choosing}Enter confirms, N next, P previous`;
    this.showOutcome();
  }

  showOutcome() {
    const told = JSON.stringify(this.revealed); // news and answer say the same: what has the focus stays
    if (this.told === told) return;
    this.told = told;
    const judge = (correct) => this.ask("judge", { correct });
    const parts = this.revealed ? [revealedPanel(this.revealed, this.kind, judge)] : [];
    this.keepingFocus(() => this.outcome.replaceChildren(...parts));
  }

  showBar(results, item) {
    const judged = results.filter((one) => one === "right" || one === "wrong").length;
    const right = results.filter((one) => one === "right").length;
    this.score.textContent = judged ? `${right} of ${judged} right` : "";
    if (this.bar.childElementCount !== results.length)
      this.bar.replaceChildren(...results.map((_, n) => el("button", { tabindex: "-1", onclick: () => this.goTo(n) })));
    results.forEach((one, n) => {
      const step = this.bar.children[n];
      step.className = `dl-quiz-step ${one ? `dl-quiz-${one}` : ""}`;
      step.textContent = RESULT_SIGNS[one];
      step.title = `${n + 1}: ${RESULT_WORDS[one]}`;
      step.setAttribute("aria-label", `Item ${n + 1}, ${RESULT_WORDS[one]}`);
      if (n === item) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
  }

  showAnswer() {
    const made = `${this.kind} ${this.item} ${this.model.get("options").join("\n")}`;
    if (made !== this.made) {
      this.made = made;
      this.keepingFocus(() => this.answer.replaceChildren(...this.answerParts()));
    }
    for (const button of this.answer.querySelectorAll("[data-answer]")) {
      const answered = this.revealed?.answer;
      button.setAttribute("aria-pressed", String(button.dataset.answer === (answered ?? this.draft)));
      button.disabled = Boolean(this.revealed);
      button.classList.toggle("dl-quiz-true", Boolean(this.revealed) && button.dataset.answer === this.revealed.truth);
    }
    const text = this.answer.querySelector("textarea");
    if (text) {
      text.readOnly = Boolean(this.revealed);
      if (this.revealed && text.value !== this.revealed.answer) text.value = this.revealed.answer;
    }
    const told = this.answer.querySelector(".dl-quiz-marked");
    if (told) told.textContent = this.markText();
  }

  answerParts() {
    if (this.kind === "choice") return this.model.get("options").map((one, n) => this.option(one, n < 9 ? `${n + 1}` : "", one));
    if (this.kind === "mark")
      return [el("span", { class: "dl-quiz-marked" }), this.option(QUIZ_NOTHING, "", "There is nothing to mark")];
    const input = (event) => {
      this.draft = event.target.value;
      this.show();
    };
    return [el("textarea", { rows: 2, "aria-label": "Your answer", placeholder: "Your answer", oninput: input })];
  }

  option(answer, key, text) {
    const sign = key ? el("kbd", { "aria-hidden": "true" }, key) : null;
    return el("button", { "data-answer": answer, "aria-pressed": "false", onclick: () => this.choose(answer) }, sign, text);
  }

  markText() {
    if (this.revealed) return "";
    const mark = this.mark();
    if (!mark) return "Click on the image to set a point. ";
    return `Point in ${mark.plane} plane ${mark.index + 1}; click again to set another, the newest counts. `;
  }
}

function renderQuiz({ model, el: host }) {
  const quiz = new DrawnQuiz(model, host);
  return () => quiz.dispose();
}

export default { render: renderQuiz };
