'use strict'
// A Paranoid Pirate worker after RFC 6: node ppp_worker.js ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]
// It beats while it works too, as timers do in Node. Its SLOW_AT-th task (1 is the first) takes SLOW_MS. The environment
// variable BEAT_MS (200) says how often it beats.
const { Dealer } = require('zeromq')

const [id, host, port, workMs = 1000, slowAt = 0, slowMs = 0] = process.argv.slice(2)
const { BEAT_MS = 200 } = process.env
const READY = '\x01'
const HEARTBEAT = '\x02'
const LIVENESS = 3
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
let tasks = 0

// A conversation, up to its end: its socket is closed, and the next one takes a new one.
async function converse() {
  const socket = new Dealer({ linger: 0 })
  let last = Promise.resolve()
  const send = (frames) => (last = last.then(() => socket.closed || socket.send(frames)))
  let liveness = LIVENESS
  const timer = setInterval(() => {
    if (liveness-- > 0) return send(HEARTBEAT)
    console.log('silence')
    socket.close()
  }, Number(BEAT_MS))
  socket.connect(`tcp://${host}:${port}`)
  await send(READY)
  console.log('ready')
  for await (const frames of socket) {
    liveness = LIVENESS
    if (frames.length > 1) work(send, frames)
    else if (String(frames[0]) !== HEARTBEAT) throw new Error(`not as in the RFC: ${frames}`)
  }
  clearInterval(timer)
}

async function work(send, [address, empty, ...body]) {
  const text = body.join('|')
  tasks += 1
  console.log(`task ${text}`)
  await sleep(Number(tasks === Number(slowAt) ? slowMs : workMs))
  send([address, empty, `${text} ${id}`])
  console.log(`answer ${text}`)
}

async function main() {
  for (;;) await converse()
}

main()
