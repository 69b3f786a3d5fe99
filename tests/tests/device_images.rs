//! Image classifiers on devices: logits and prompt tuning from a program file against the same on this machine, memory, and errors.

use std::sync::Arc;

use samara::export::images::image_program_file;
use samara::export::spec::{ImageSpec, Optimizer};
use samara::kernels::gemm::Gemm;
use samara::session::{CpuDevice, Engine, On, ParamSet, Session};
use samara::vision::tune::{Added, ImageTuneConfig, Method};
use samara::vision::{register, register_tuned};
use samara_core::exec::{Gradients, WriteError};
use samara_core::file::{FileError, ProgramKind};
use samara_core::graph::{DType, Recompute, Tensor, Wrt};
use samara_core::model::image;
use samara_core::model::vit::VitConfig;
use samara_core::nn::Dropout;
use samara_core::ops::{self, elementwise::GeluErf};
use samara_core::params::{Init, Part};
use samara_core::session::{Hyper, ImageSession, SessionError};
use samara_tests::device::{File, PLAIN, TINY, export};

/// Images of 12 × 8 pixels in six patches.
const SMALL: VitConfig = VitConfig {
    image_size: [12, 8],
    patch_size: 4,
    hidden_size: 12,
    num_hidden_layers: 3,
    num_attention_heads: 2,
    intermediate_size: 20,
    initializer_range: 0.3,
    num_labels: 5,
    ..VitConfig::TINY
};
const IMAGE: usize = 12 * 8 * 3;
const LABELS: [i32; 3] = [4, -1, 2];

const NOTHING: Added = Added { prompts: 0, deep: false, adapter: 0, hidden: 0, side: false, rank: 0, alpha: 0.0 };

fn method(method: Method) -> ImageTuneConfig {
    ImageTuneConfig { method, ..ImageTuneConfig::default() }
}

/// Two prompts in every block.
fn deep(tune: &ImageTuneConfig) -> ImageSpec<'_> {
    ImageSpec {
        weights: DType::Real,
        tune: Some(tune),
        added: Added { prompts: 2, deep: true, ..NOTHING },
        seed: 3,
        optimizer: Optimizer::Sgd,
        batch: 3,
        recompute: Recompute::None,
        names: true,
    }
}

/// Weights of a model, with a head that is not 0.
fn weights(config: &VitConfig) -> ParamSet {
    let (registry, model) = register(config).unwrap();
    let device = CpuDevice::new(Arc::new(Engine::reference().unwrap()));
    let mut set = ParamSet::new(&device, "model", &registry).unwrap();
    registry.view().initialise(7, set.weights.get_mut());
    for id in model.head() {
        let range = registry.view().infos()[id.index()].range();
        set.weights.get_mut()[range].iter_mut().enumerate().for_each(|(i, w)| *w = ((i * 7) % 11) as f32 / 11.0 - 0.5);
    }
    set
}

fn file(config: VitConfig, spec: &ImageSpec<'_>) -> File {
    let engine = Arc::new(Engine::reference().unwrap());
    File::new(&image_program_file(&engine, &config, &weights(&config), spec).unwrap().unwrap())
}

fn images(count: usize) -> Vec<f32> {
    (0..count * IMAGE).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect()
}

/// The same model in a session of this machine with its fast kernels: logits of every image, the mean loss, and the parameters after a step of SGD.
fn on_this_machine(file: &File, spec: &ImageSpec<'_>, lr: f32) -> (Vec<f32>, f32, Vec<f32>) {
    let kernels = ops::vit_training::<f32, GeluErf>();
    let opened = file.open_images(&kernels).unwrap();
    let trains = |info: &_, blocks| spec.tune.is_some_and(|tune| tune.trains(info, blocks));
    let (registry, model) = register_tuned(&SMALL, &spec.added, Init::Zeros, trains).unwrap().unwrap();
    let mut session = Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()));
    let id = session.add_set("model", &registry).unwrap();
    let (set, _) = session.set_mut(id);
    set.weights.get_mut().copy_from_slice(opened.trainable());
    set.frozen.get_mut().copy_from_slice(opened.frozen());
    let (program, [pixels, labels, upstream, logits, losses]) = session
        .prepare(On::set(id), |g| {
            let pixels = model.dims().pixels(g, 3);
            let features = model.features(g, pixels, Dropout::NONE);
            let logits = g.output(image::logits(g, &*model, features));
            let (labels, upstream): (Tensor, Tensor) = (g.ints(&[3], -1, 4), g.input(&[1]));
            let losses = g.output(image::losses(g, &*model, features, labels, 0.0));
            g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
            [pixels, labels, upstream, logits, losses]
        })
        .unwrap();
    session.write(&program, pixels, &images(3)).unwrap();
    session.write_ints(&program, labels, &LABELS).unwrap();
    session.write(&program, upstream, &[0.5]).unwrap();
    session.run_all(&program, On::set(id), Gradients::Overwrite);
    let loss = session.read(&program, losses).iter().sum::<f32>() / 2.0;
    let logits = session.read(&program, logits).to_vec();
    let set = session.set(id);
    let stepped = set.weights.get().iter().zip(set.grads[0].get()).map(|(w, g)| w - lr * g).collect();
    (logits, loss, stepped)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_device_classifies_and_learns_as_this_machine_does() {
    let kernels = ops::vit_training::<f32, GeluErf>();
    let methods = [Method::VptDeep, Method::Linear, Method::Bias, Method::Partial(1), Method::Full].map(method);
    let [prompts, linear, bias, last, full] = &methods;
    let plain = |tune| ImageSpec { added: NOTHING, ..deep(tune) };
    for spec in [
        deep(prompts),
        ImageSpec { recompute: Recompute::Blocks, ..deep(prompts) },
        ImageSpec { added: Added { prompts: 3, ..NOTHING }, ..deep(prompts) },
        plain(linear),
        plain(bias),
        plain(last),
        plain(full),
    ] {
        let file = file(SMALL, &spec);
        let (logits, loss, stepped) = on_this_machine(&file, &spec, 0.1);
        let opened = file.open_images(&kernels).unwrap();
        let needed = ImageSession::ram_len(&opened);
        let mut ram = vec![7.0; needed + 5];
        let mut session = ImageSession::new(opened, &mut ram).unwrap();
        assert_eq!((session.images_of(ProgramKind::Evaluate), session.images_of(ProgramKind::Train)), (1, 3));
        for (image, expected) in images(3).chunks(IMAGE).zip(logits.chunks(5)) {
            assert!(largest_difference(session.classify(image).unwrap(), expected) < 1e-5, "{spec:?}");
        }
        let found = session.train(&images(3), &LABELS, &Hyper::sgd(0.1)).unwrap();
        assert!((found - loss).abs() < 1e-5, "{spec:?}: {found} {loss}");
        assert!(largest_difference(session.trainable(), &stepped) < 1e-5, "{spec:?}");
        assert_ne!(session.trainable(), opened.trainable(), "{spec:?}");
        assert!((0..20).map(|_| session.train(&images(3), &LABELS, &Hyper::sgd(0.1)).unwrap()).fold(0.0, |_, last| last) < loss);
        assert_eq!(ram[needed..], [7.0; 5]);
    }
}

/// Without training the file has no gradient, and inference kernels open it.
#[test]
fn a_file_for_inference_opens_with_fewer_kernels() {
    let prompts = method(Method::VptDeep);
    let spec = ImageSpec { tune: None, added: NOTHING, ..deep(&prompts) };
    let (inference, training) = (ops::vit_inference::<f32, GeluErf>(), ops::vit_training::<f32, GeluErf>());
    let plain = file(SMALL, &spec);
    let opened = plain.open_images(&inference).unwrap();
    let mut ram = vec![0.0; ImageSession::ram_len(&opened)];
    let mut session = ImageSession::new(opened, &mut ram).unwrap();
    assert!(session.classify(&images(1)).unwrap().iter().all(|z| z.is_finite()));
    assert_eq!(session.train(&[], &[], &Hyper::sgd(0.1)), Err(SessionError::NoProgram(ProgramKind::Train)));
    assert!(matches!(
        file(SMALL, &deep(&prompts)).open_images(&inference),
        Err(FileError::NoKernel { program: ProgramKind::Train, .. })
    ));
    assert!(file(SMALL, &deep(&prompts)).open_images(&training).is_ok());
}

/// A session of text refuses a file of images, and the reverse; inputs that do not fit are named, and nothing is changed.
#[test]
fn what_does_not_fit_is_refused() {
    let (images_table, text_table) = (ops::vit_training::<f32, GeluErf>(), ops::reference());
    let prompts = method(Method::VptDeep);
    let deep = file(SMALL, &deep(&prompts));
    assert!(
        matches!(deep.error(&text_table), FileError::Port { program: ProgramKind::Train, .. }),
        "{}",
        deep.error(&text_table)
    );
    let text = export(TINY, PLAIN, None);
    assert!(matches!(text.open_images(&text_table).err(), Some(FileError::Port { program: ProgramKind::Decode, .. })));
    let opened = deep.open_images(&images_table).unwrap();
    let mut ram = vec![0.0; ImageSession::ram_len(&opened)];
    let before = opened.trainable().to_vec();
    let mut session = ImageSession::new(opened, &mut ram).unwrap();
    let error = session.classify(&images(2)).err();
    assert_eq!(error, Some(SessionError::Pixels(WriteError::Length { found: 2 * IMAGE, expected: IMAGE })));
    let error = session.train(&images(3), &[0, 5, 0], &Hyper::sgd(0.1)).err();
    assert_eq!(error, Some(SessionError::Labels(WriteError::Range { position: 1, value: 5, low: i32::MIN, high: 4 })));
    assert_eq!(session.trainable(), before);
}

/// What VPT-deep takes on a device with images of 32 × 32 and patches of 8: without recomputation 201 KiB for 48 columns; with blocks computed again
/// less than half of that, and within 160 KiB for 64.
#[test]
fn prompt_tuning_fits_a_microcontroller() {
    let (kernels, prompts) = (ops::vit_training::<f32, GeluErf>(), method(Method::VptDeep));
    let model = |width: usize| VitConfig {
        image_size: [32; 2],
        patch_size: 8,
        hidden_size: width,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        intermediate_size: 4 * width,
        num_labels: 8,
        ..VitConfig::TINY
    };
    let session_bytes = |width, count, recompute| {
        let spec = ImageSpec { added: Added { prompts: count, deep: true, ..NOTHING }, batch: 1, recompute, ..deep(&prompts) };
        let file = file(model(width), &spec);
        let opened = file.open_images(&kernels).unwrap();
        (4 * ImageSession::ram_len(&opened), file.bytes().len())
    };
    let found = Recompute::ALL.map(|recompute| [(48, 4), (64, 8)].map(|(width, count)| session_bytes(width, count, recompute)));
    println!("session and file in bytes: {found:?}");
    let [whole, _, blocks] = found;
    assert!(whole[0].0 <= 201 << 10 && blocks[0].0 <= 100 << 10 && blocks[1].0 <= 160 << 10, "{found:?}");
}

/// Prompts get initial values, and the rest those of the model.
#[test]
fn a_file_has_the_weights_of_the_model() {
    let (kernels, prompts) = (ops::vit_training::<f32, GeluErf>(), method(Method::VptDeep));
    let spec = deep(&prompts);
    let file = file(SMALL, &spec);
    let opened = file.open_images(&kernels).unwrap();
    let trains = |info: &_, blocks| prompts.trains(info, blocks);
    let (registry, _) = register_tuned(&SMALL, &spec.added, Init::Zeros, trains).unwrap().unwrap();
    let (view, source) = (registry.view(), weights(&SMALL));
    for info in view.infos() {
        let from =
            source.params().infos().iter().find(|from| from.name == info.name).map(|from| &source.weights.get()[from.range()]);
        match (from, info.part) {
            (None, _) if info.name.to_string().starts_with("prompts.") => {
                assert!(opened.trainable()[info.range()].iter().all(|&x| x != 0.0))
            }
            (Some(values), Part::Head) => assert_eq!(&opened.trainable()[info.range()], values),
            (Some(values), _) => assert_eq!(&opened.frozen()[info.frozen_bytes(4)], bytemuck::cast_slice::<_, u8>(values)),
            (None, _) => panic!("{} is nowhere", info.name),
        }
    }
}
