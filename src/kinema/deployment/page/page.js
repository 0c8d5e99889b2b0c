"use strict";

const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"];
const RECORD_SECONDS = 5;
const byId = (id) => document.getElementById(id);
const video = byId("video");
let limits = { max_mib: Infinity, max_seconds: Infinity };
let latest = 0;  // number of the last video asked about: answers to earlier ones are dropped
let recorder = null;

function say(text, wrong = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("wrong", wrong);
}

function show(blob) {
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.src = URL.createObjectURL(blob);
  video.controls = true;
  video.hidden = false;
  byId("hint").hidden = true;
}

async function ask(blob) {
  const number = ++latest;
  byId("result").hidden = true;
  if (blob.size > limits.max_mib * 2 ** 20) {
    say(`This file has ${(blob.size / 2 ** 20).toFixed(1)} MiB, and at most ${limits.max_mib} MiB are taken.`, true);
    return;
  }
  show(blob);
  say("Looking …");
  try {
    const answer = await fetch("/predict", { method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" } });
    const found = await answer.json();
    if (number !== latest) return;
    if (!answer.ok) {
      say(found.error, true);
      return;
    }
    say("");
    draw(found);
  } catch (error) {
    if (number === latest) say(`The program that serves this page does not answer (${error.message}).`, true);
  }
}

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function draw(found) {
  const list = byId("guesses");
  list.replaceChildren(...found.top.map((guess, place) => {
    const row = document.createElement("li");
    for (const [kind, text] of [["score", `${(100 * guess.score).toFixed(1)} %`], ["name", guess.class], ["bar", ""]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      row.append(part);
    }
    row.lastChild.style.background = COLOURS[place % COLOURS.length];
    row.lastChild.style.width = `${Math.max(0.5, 100 * guess.score)}%`;
    return row;
  }));
  const { times, window_s: seconds, scores } = found.over_time;
  const left = 36, right = 590, top = 8, bottom = 190;
  const x = (time) => left + (right - left) * time / found.duration;
  const y = (score) => bottom - (bottom - top) * score;
  const curves = byId("curves");
  curves.replaceChildren();
  for (const share of [0, 0.5, 1]) {
    curves.append(element("line", { class: "grid", x1: left, x2: right, y1: y(share), y2: y(share) }));
    curves.append(element("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`));
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const time = share * found.duration;
    const told = time.toFixed(found.duration < 4 ? 2 : 1);
    curves.append(element("text", { x: x(time), y: bottom + 18, "text-anchor": "middle" }, `${told} s`));
  }
  found.top.forEach((guess, place) => {
    const points = scores[guess.key ?? guess.class].map((score, index) => `${x(times[index])},${y(score)}`);
    const stroke = COLOURS[place % COLOURS.length];
    curves.append(element("polyline", { class: "curve", points: points.join(" "), stroke }));
    for (const point of points) {
      const [cx, cy] = point.split(",");
      curves.append(element("circle", { cx, cy, r: 2.5, fill: stroke }));
    }
  });
  const now = element("line", { class: "now", x1: left, x2: left, y1: top, y2: bottom });
  curves.append(now);
  video.ontimeupdate = () => {
    const place = x(Math.min(video.currentTime, found.duration));
    now.setAttribute("x1", place);
    now.setAttribute("x2", place);
  };
  byId("about").textContent = `${found.num_frames} frames, ${found.duration.toFixed(2)} s. A point is the score of the ` +
    `${seconds.toFixed(2)} s around it; the list is the score of the whole video.`;
  byId("result").hidden = false;
}

async function record() {
  if (recorder) {
    recorder.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    say(`There is no camera that this page may use (${error.message}).`, true);
    return;
  }
  const parts = [];
  const button = byId("record");
  video.src = "";
  video.removeAttribute("src");
  video.srcObject = stream;
  video.controls = false;
  video.hidden = false;
  byId("hint").hidden = true;
  video.play();
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => parts.push(event.data);
  const end = setTimeout(() => recorder && recorder.stop(), 1000 * RECORD_SECONDS);
  recorder.onstop = () => {
    clearTimeout(end);
    for (const track of stream.getTracks()) track.stop();
    const kind = recorder.mimeType;
    recorder = null;
    button.textContent = "Record";
    button.classList.remove("on");
    ask(new Blob(parts, { type: kind }));
  };
  recorder.start();
  button.textContent = "Stop";
  button.classList.add("on");
  say(`Recording, at most ${RECORD_SECONDS} s.`);
}

byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) ask(file);
  event.target.value = "";  // so that the same file can be chosen again
});
byId("record").addEventListener("click", record);
for (const kind of ["dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
  });
}
fetch("/facts").then((answer) => answer.json()).then((facts) => {
  limits = facts;
  byId("facts").textContent = [`${facts.model}, ${facts.num_classes} classes`, facts.checkpoint,
    `at most ${facts.max_mib} MiB and ${facts.max_seconds} s`, ...facts.notes].filter(Boolean).join(" · ");
});
