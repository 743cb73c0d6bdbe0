// Echo server|client blocking|selector PORT. The blocking half is java.net with a thread for each connection, the
// other is java.nio with one selector for all. Every client sends, ends its sending, and must get all of it back.
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

class Echo {
    static final int CLIENTS = 20, SIZE = 300_000;

    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[2]);
        switch (args[0] + " " + args[1]) {
            case "server blocking" -> serve(port);
            case "server selector" -> select(port);
            case "client blocking" -> talk(port);
            case "client selector" -> talkSelecting(port);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static byte[] data(int seed) {
        byte[] data = new byte[SIZE];
        new Random(seed).nextBytes(data);
        return data;
    }

    static void check(boolean holds, Object what) {
        if (!holds) throw new AssertionError(what);
    }

    // ---- java.net

    static void serve(int port) throws IOException {
        try (ServerSocket listener = new ServerSocket()) {
            listener.setReuseAddress(true);
            listener.bind(new InetSocketAddress("127.0.0.1", port), 50);
            listener.setSoTimeout(20);
            try {
                listener.accept();
                throw new AssertionError("nobody was expected yet");
            } catch (SocketTimeoutException expected) {
                listener.setSoTimeout(0);
            }
            System.out.println("listening");
            while (true) {
                Socket socket = listener.accept();
                new Thread(() -> echo(socket)).start();
            }
        }
    }

    static void echo(Socket socket) {
        try (socket) {
            socket.setTcpNoDelay(true);
            socket.getInputStream().transferTo(socket.getOutputStream());
        } catch (IOException error) {
            error.printStackTrace();
        }
    }

    static void talk(int port) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(CLIENTS);
        Future<?>[] all = new Future<?>[CLIENTS];
        for (int i = 0; i < CLIENTS; i++) {
            int seed = i;
            all[i] = pool.submit(() -> { one(port, seed); return null; });
        }
        for (Future<?> future : all) future.get();
        pool.shutdown();
        System.out.println(CLIENTS + " echoed");
    }

    static void one(int port, int seed) throws Exception {
        byte[] data = data(seed);
        try (Socket socket = new Socket()) {
            socket.setKeepAlive(true);
            socket.connect(new InetSocketAddress("127.0.0.1", port), 20_000);
            check(socket.getInetAddress().equals(InetAddress.getByName("127.0.0.1")), socket);
            check(socket.getLocalPort() > 0 && socket.getPort() == port, socket);
            InputStream in = socket.getInputStream();
            socket.setSoTimeout(20);
            try {
                in.read();
                throw new AssertionError("nothing was expected yet");
            } catch (SocketTimeoutException expected) {
                socket.setSoTimeout(20_000);
            }
            Thread sender = new Thread(() -> send(socket, data));
            sender.start();
            check(Arrays.equals(in.readAllBytes(), data), "other bytes came back");
            sender.join();
        }
    }

    static void send(Socket socket, byte[] data) {
        try {
            socket.getOutputStream().write(data);
            socket.shutdownOutput();
        } catch (IOException error) {
            throw new AssertionError(error);
        }
    }

    // ---- java.nio

    static void select(int port) throws IOException {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress(port));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        System.out.println("listening");
        while (true) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) accept(listener, selector);
                else echo(key);
            }
            selector.selectedKeys().clear();
        }
    }

    static void accept(ServerSocketChannel listener, Selector selector) throws IOException {
        SocketChannel channel = listener.accept();
        if (channel == null) return;
        channel.configureBlocking(false);
        channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
        channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
    }

    // What was read is written before more is read.
    static void echo(SelectionKey key) throws IOException {
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        if (key.isReadable()) {
            if (channel.read(buffer) < 0) {
                channel.close();
                return;
            }
            buffer.flip();
        }
        channel.write(buffer);
        if (buffer.hasRemaining()) {
            key.interestOps(SelectionKey.OP_WRITE);
        } else {
            buffer.clear();
            key.interestOps(SelectionKey.OP_READ);
        }
    }

    static class Talk {
        final byte[] data;
        final ByteBuffer out;
        final ByteBuffer back = ByteBuffer.allocate(SIZE + 1);

        Talk(int seed) {
            data = data(seed);
            out = ByteBuffer.wrap(data);
        }
    }

    static void talkSelecting(int port) throws IOException {
        Selector selector = Selector.open();
        InetSocketAddress[] addresses = {new InetSocketAddress("127.0.0.1", port), new InetSocketAddress("::1", port)};
        for (int i = 0; i < CLIENTS; i++) {
            SocketChannel channel = SocketChannel.open();
            channel.configureBlocking(false);
            channel.register(selector, SelectionKey.OP_CONNECT, new Talk(i));
            channel.connect(addresses[i % 2]);
        }
        int left = CLIENTS;
        while (left > 0) {
            check(selector.select(20_000) > 0, "nothing happens");
            for (SelectionKey key : selector.selectedKeys()) if (proceed(key)) left--;
            selector.selectedKeys().clear();
        }
        refused(selector);
        System.out.println(CLIENTS + " echoed");
    }

    // True when the connection is done.
    static boolean proceed(SelectionKey key) throws IOException {
        SocketChannel channel = (SocketChannel) key.channel();
        Talk talk = (Talk) key.attachment();
        if (key.isConnectable()) {
            check(channel.finishConnect(), "not connected");
            key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
            return false;
        }
        if (key.isWritable()) {
            channel.write(talk.out);
            if (!talk.out.hasRemaining()) {
                channel.shutdownOutput();
                key.interestOps(SelectionKey.OP_READ);
            }
        }
        if (key.isReadable() && channel.read(talk.back) < 0) {
            check(Arrays.equals(Arrays.copyOf(talk.back.array(), talk.back.position()), talk.data), "other bytes");
            channel.close();
            return true;
        }
        return false;
    }

    // A port that was free a moment ago: the selector reports the refusal.
    static void refused(Selector selector) throws IOException {
        int free;
        try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            free = taken.getLocalPort();
        }
        SocketChannel channel = SocketChannel.open();
        channel.configureBlocking(false);
        channel.register(selector, SelectionKey.OP_CONNECT);
        try {
            channel.connect(new InetSocketAddress("127.0.0.1", free));
            check(selector.select(20_000) == 1, "no refusal");
            channel.finishConnect();
            throw new AssertionError("connected");
        } catch (ConnectException expected) {
            channel.close();
        }
    }
}
