// Puts each new middle of the page in the place of the old one, and says when none comes any more.
"use strict";
const middle = document.getElementById("middle");
const link = document.getElementById("link");
let newest = new Date();
let timer = 0;

function say(state, text) {
  document.body.dataset.link = state;
  link.dataset.state = state;
  link.textContent = text;
}
function lost() {
  say("lost", "Not live: the daemon does not answer. What is shown is from " + newest.toLocaleTimeString() + ".");
}
function alive() {
  newest = new Date();
  say("live", "Live.");
  clearTimeout(timer);
  // The daemon says something every 10 seconds, news or not.
  timer = setTimeout(lost, 25000);
}

function join() {
  const events = new EventSource("/events");
  events.addEventListener("middle", (event) => {
    // Escaped where it was made; the content policy lets nothing in it run.
    middle.innerHTML = event.data;
    alive();
  });
  events.addEventListener("beat", alive);
  events.onerror = () => {
    lost();
    // A refusal ends the stream for good: another one is begun, in a while.
    if (events.readyState === EventSource.CLOSED) {
      setTimeout(join, 10000);
    }
  };
}
join();
