// Sends what the microphone hears to the server in chunks, and keeps and plays what comes back clean.
// `element` and `server` come from gradio.
const CHUNK_SECONDS = 0.25;
const at = (name) => element.querySelector(name);
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
let session = null;

function show(words) { at(".mic-state").textContent = words; }

function encode(samples) {
  const whole = Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(32768 * sample))));
  const bytes = new Uint8Array(whole.buffer);
  let text = "";
  for (let place = 0; place < bytes.length; place += 8192) {
    text += String.fromCharCode(...bytes.subarray(place, place + 8192));
  }
  return btoa(text);
}

function decode(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
}

function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) { whole.set(part, place); place += part.length; }
  return whole;
}

function wav(parts, rate) {
  const samples = Int16Array.from(joined(parts), (sample) => Math.max(-32768, Math.min(32767, 32768 * sample)));
  const head = new DataView(new ArrayBuffer(44));
  const word = (place, text) => [...text].forEach((letter, i) => head.setUint8(place + i, letter.charCodeAt(0)));
  word(0, "RIFF"); head.setUint32(4, 36 + samples.byteLength, true); word(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, 2 * rate, true); head.setUint16(32, 2, true);
  head.setUint16(34, 16, true); word(36, "data"); head.setUint32(40, samples.byteLength, true);
  return URL.createObjectURL(new Blob([head, samples], { type: "audio/wav" }));
}

function play(own, samples) {
  if (!at(".mic-listen").checked || !samples.length) return;
  const buffer = own.context.createBuffer(1, samples.length, own.rate);
  buffer.copyToChannel(samples, 0);
  const source = own.context.createBufferSource();
  source.buffer = buffer;
  source.connect(own.context.destination);
  own.due = Math.max(own.due, own.context.currentTime + 0.05);
  source.start(own.due);
  own.due += buffer.duration;
}

async function send(own, last) {
  const samples = joined(own.waiting);
  own.waiting = [];
  own.given.push(samples);
  const [text, words] = await server.hear([own.name, encode(samples), last]);
  const clean = decode(text);
  own.made.push(clean);
  play(own, clean);
  if (words) { own.words = words; own.running = false; }
}

async function pump(own) {
  while (own.running) {
    const count = own.waiting.reduce((sum, part) => sum + part.length, 0);
    if (count >= CHUNK_SECONDS * own.rate) await send(own, false);
    else await new Promise((done) => setTimeout(done, 30));
    show(`${(own.made.reduce((sum, part) => sum + part.length, 0) / own.rate).toFixed(1)} s made clean`);
  }
  own.tracks.forEach((track) => track.stop());
  if (!own.words) await send(own, true);
  for (const [name, parts] of [["given", own.given], ["made", own.made]]) {
    const player = at(`.mic-${name}`);
    if (player.src) URL.revokeObjectURL(player.src);
    player.src = wav(parts, own.rate);
  }
  at(".mic-results").hidden = false;
  at(".mic-go").textContent = "Start";
  show(own.words || `${(own.made.reduce((sum, part) => sum + part.length, 0) / own.rate).toFixed(1)} s, ended`);
  session = null;
}

async function start() {
  if (!navigator.mediaDevices) { show("browsers give the microphone to this computer's and to https pages only"); return; }
  const context = new AudioContext();
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
  } catch (error) { show(`no microphone: ${error.message}`); return; }
  const [name, words] = await server.begin([context.sampleRate]);
  const tracks = media.getTracks();
  if (!name) { tracks.forEach((track) => track.stop()); show(words); return; }
  const own = { name, context, rate: context.sampleRate, waiting: [], given: [], made: [], due: 0, running: true,
                words: "", tracks };
  const source = context.createMediaStreamSource(media);
  const tap = context.createScriptProcessor(2048, 1, 1);
  tap.onaudioprocess = (event) => {
    if (own.running) own.waiting.push(new Float32Array(event.inputBuffer.getChannelData(0)));
  };
  source.connect(tap);
  tap.connect(context.destination);  // silent, but without it nothing is heard
  session = own;
  at(".mic-go").textContent = "Stop";
  at(".mic-results").hidden = true;
  pump(own);
}

element.addEventListener("click", (event) => {
  if (!event.target.classList.contains("mic-go")) return;
  if (session) session.running = false;
  else start();
});
