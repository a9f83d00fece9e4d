//! A free port of the loopback, and a thread for every connection to it. It never says a word on
//! a connection itself.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Listens until dropped; after that the port refuses connections.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn bind() -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        Self { socket, address, stopping: Arc::default(), thread: None }
    }

    #[must_use]
    pub fn serve(mut self, receive: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        let socket = self.socket.try_clone().expect("a second handle");
        let stopping = Arc::clone(&self.stopping);
        let receive = Arc::new(receive);
        self.thread = Some(thread::spawn(move || {
            for stream in socket.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let receive = Arc::clone(&receive);
                thread::spawn(move || receive(&stream));
            }
        }));
        self
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Closing is not enough: a program that another thread starts at this moment has a copy of
        // the socket until it has become itself. Shutting down also wakes the thread in accept.
        if let Ok(socket) = self.socket.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(socket)).shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
