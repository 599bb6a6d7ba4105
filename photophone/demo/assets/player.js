// Plays 16-bit samples of a stream as the server makes them. `element`, `server` and `watch` come from gradio.
let context = null;
let current = "";

function wake() {  // browsers let sound begin only in answer to a click
  if (!context) context = new AudioContext({ sampleRate: SAMPLE_RATE });
  if (context.state === "suspended") context.resume();
}
document.addEventListener("click", wake, true);

function decode(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const samples = new Int16Array(bytes.buffer);
  return Float32Array.from(samples, (sample) => sample / 32768);
}

function show(words) {
  const place = element.querySelector(".live-state");
  if (place) place.textContent = words;
}

async function play(name) {
  let position = 0;
  let due = 0;
  const sources = [];
  show("playing while it is made");
  while (name === current) {
    const [text, ended] = await server.read([name, position]);
    if (name !== current) break;
    if (text && context) {
      const samples = decode(text);
      position += 2 * samples.length;
      const buffer = context.createBuffer(1, samples.length, SAMPLE_RATE);
      buffer.copyToChannel(samples, 0);
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(context.destination);
      due = Math.max(due, context.currentTime + 0.05);
      source.start(due);
      due += buffer.duration;
      sources.push(source);
    } else if (text) {
      position += atob(text).length;
    }
    const place = element.querySelector(".live");
    if (place) place.dataset.played = String(position);
    if (ended && !text) break;
  }
  if (name !== current) sources.forEach((source) => source.stop());
  else show("");
}

watch("value", () => {
  const place = element.querySelector(".live");
  const name = place ? place.dataset.stream : "";
  if (name === current) return;
  current = name;
  if (name) play(name);
});
